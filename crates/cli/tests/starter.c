// Starts a program in the way that the first argument names, for tests: `starter HOW PROGRAM`.
//
// A program that was started prints its arguments; HOW that fails prints why and gives 9.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/filter.h>
#include <linux/ioctl.h>
#include <linux/seccomp.h>
#include <linux/userfaultfd.h>
#include <spawn.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

static int reap(int pid) {
    int status = 0;
    waitpid(pid, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128;
}

// No userfaultfd from here on: neither by the system call nor by the device. `number` is what the kernel answers.
static void forbid(int number) {
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_userfaultfd, 3, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_ioctl, 0, 3),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[1])),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, USERFAULTFD_IOC_NEW, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | number),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {sizeof filter / sizeof filter[0], filter};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program)) {
        perror("seccomp");
        exit(10);
    }
}

int main(int count, char **words) {
    if (count < 3)
        return 11;
    char *how = words[1], *program = words[2], **rest = words + 2;
    int failed = 0;
#define IS(name) (!strcmp(how, name))
    if (IS("execv"))
        execv(program, rest);
    else if (IS("execve"))
        execve(program, rest, environ);
    else if (IS("execvp"))
        execvp(program, rest);
    else if (IS("execvpe"))
        execvpe(program, rest, environ);
    else if (IS("fexecve"))
        fexecve(open(program, O_RDONLY), rest, environ);
    else if (IS("execl"))
        execl(program, program, "1", "2", "3", "4", "5", "6", "7", "8", (char *)0);
    else if (IS("execlp"))
        execlp(program, program, "1", "2", "3", "4", "5", "6", "7", "8", (char *)0);
    else if (IS("execle"))
        execle(program, program, "1", "2", "3", "4", "5", "6", "7", "8", (char *)0, environ);
    else if (IS("vfork")) {
        int pid = vfork();
        if (!pid) {
            execv(program, rest);
            _exit(9);
        }
        return reap(pid);
    } else if (IS("fork")) {
        int pid = fork();
        if (!pid) {
            execvp(program, rest);
            _exit(9);
        }
        return reap(pid);
    } else if (IS("posix_spawn") || IS("posix_spawnp")) {
        int pid;
        failed = (IS("posix_spawn") ? posix_spawn : posix_spawnp)(&pid, program, 0, 0, rest, environ);
        if (!failed)
            return reap(pid);
        errno = failed;
    } else if (IS("as-nobody")) {
        // The usual order: groups, group, user.
        if (setgroups(0, 0) || setgid(65534) || setuid(65534))
            perror("setuid");
        execv(program, rest);
    } else if (IS("forbid")) {
        // The answer stands before the program.
        forbid(atoi(program));
        execvp(rest[1], rest + 1);
    } else
        return 12;
    printf("%s: %s\n", how, strerrorname_np(errno));
    return 9;
}
