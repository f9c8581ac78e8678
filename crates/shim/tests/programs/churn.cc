// C++ on the heap: containers that cross threads, aligned new, exceptions when memory ends, thread-local objects.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <memory>
#include <mutex>
#include <new>
#include <queue>
#include <string>
#include <thread>
#include <vector>

static void must(bool truth, const char *what) {
    if (!truth) {
        std::fprintf(stderr, "not so: %s\n", what);
        std::_Exit(1);
    }
}

struct alignas(256) Wide {
    unsigned char bytes[768];
};

struct Parcel {
    std::map<int, std::string> words;
    std::vector<std::unique_ptr<Wide>> wides;
};

static std::mutex lock;
static std::queue<std::unique_ptr<Parcel>> parcels;

static thread_local std::vector<std::string> mine;

static std::unique_ptr<Parcel> packed(int seed) {
    auto parcel = std::make_unique<Parcel>();
    for (int i = 0; i < 50; i++) parcel->words[i] = std::string((seed * 31 + i * 7) % 300, 'a' + i % 26);
    for (int i = 0; i < 3; i++) {
        auto wide = std::make_unique<Wide>();
        must(reinterpret_cast<std::uintptr_t>(wide.get()) % 256 == 0, "aligned new aligns");
        for (auto &byte : wide->bytes) byte = seed + i;
        parcel->wides.push_back(std::move(wide));
    }
    parcel->words[-1] = std::to_string(seed);
    return parcel;
}

static void inspect(const Parcel &parcel) {
    int seed = std::stoi(parcel.words.at(-1));
    for (int i = 0; i < 50; i++)
        must(parcel.words.at(i) == std::string((seed * 31 + i * 7) % 300, 'a' + i % 26), "a string is as it was");
    for (int i = 0; i < 3; i++)
        for (auto byte : parcel.wides[i]->bytes) must(byte == (unsigned char)(seed + i), "a block is as it was");
}

static void work(int seed) {
    for (int i = 0; i < 1500; i++) {
        auto parcel = packed(seed * 10007 + i);
        std::unique_ptr<Parcel> other;
        {
            std::lock_guard<std::mutex> hold(lock);
            parcels.push(std::move(parcel));
            if (parcels.size() > 100) other = std::move(parcels.front()), parcels.pop();
        }
        if (other) inspect(*other);
        mine.push_back(std::string(i % 100, 'x'));
    }
}

int main() {
    std::vector<std::thread> threads;
    for (int i = 0; i < 16; i++) threads.emplace_back(work, i);
    for (auto &thread : threads) thread.join();
    while (!parcels.empty()) inspect(*parcels.front()), parcels.pop();
    bool caught = false;
    try {
        volatile std::size_t huge = SIZE_MAX / 4;
        void *volatile block = operator new(huge);
        must(block == nullptr, "nobody has that much memory");
    } catch (const std::bad_alloc &) {
        caught = true;
    }
    must(caught, "new throws when memory ends");
    std::puts("so it is");
}
