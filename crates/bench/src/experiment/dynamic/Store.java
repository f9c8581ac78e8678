import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.util.HashMap;

/**
 * Keeps a map of blocks and, while it is told to, reads blocks at random, compares them and puts new ones in place of some.
 *
 * <p>Orders on standard input: busy, idle, quit. Says FILLED BLOCKS, OPS BLOCKS-READ, at last VERIFIED BLOCKS.
 *
 * <p>usage: java Store MIB
 */
public final class Store {
    private static final int LONGS = 4096;
    private static volatile String order = "idle";

    private static long mix(long x) {
        x = (x ^ (x >>> 30)) * 0xbf58476d1ce4e5b9L;
        x = (x ^ (x >>> 27)) * 0x94d049bb133111ebL;
        return x ^ (x >>> 31);
    }

    private static void fill(long[] block, long key, long version) {
        for (int at = 0; at < LONGS; at++) {
            block[at] = at % 2 == 0 ? mix(key * 31 + version + at) : key ^ version;
        }
    }

    private static void check(long[] block, long key, long version) {
        for (int at = 0; at < LONGS; at++) {
            if (block[at] != (at % 2 == 0 ? mix(key * 31 + version + at) : key ^ version)) {
                System.err.println("block " + key + " is not what was written");
                System.exit(1);
            }
        }
    }

    private static void listen() {
        try (var lines = new BufferedReader(new InputStreamReader(System.in))) {
            for (String line; (line = lines.readLine()) != null; ) {
                order = line.trim();
            }
        } catch (IOException error) {
            System.err.println(error);
        }
        order = "quit";
    }

    public static void main(String[] arguments) throws InterruptedException {
        int blocks = Integer.parseInt(arguments[0]) * 32;
        var map = new HashMap<Integer, long[]>();
        long[] versions = new long[blocks];
        for (int key = 0; key < blocks; key++) {
            long[] block = new long[LONGS];
            fill(block, key, 0);
            map.put(key, block);
        }
        System.out.println("FILLED " + blocks);
        var listener = new Thread(Store::listen);
        listener.setDaemon(true);
        listener.start();
        long state = 1;
        long ops = 0;
        long said = System.nanoTime();
        while (!order.equals("quit")) {
            if (!order.equals("busy")) {
                Thread.sleep(20);
                continue;
            }
            for (int turn = 0; turn < 64; turn++) {
                state = mix(state + 0x9e3779b97f4a7c15L);
                int key = (int) Long.remainderUnsigned(state, blocks);
                long[] block = map.get(key);
                check(block, key, versions[key]);
                if (state >>> 61 == 0) {
                    // A new object now and then, for the collector; mostly the old one is written.
                    if (((state >>> 56) & 7) == 0) {
                        block = new long[LONGS];
                        map.put(key, block);
                    }
                    fill(block, key, ++versions[key]);
                }
                ops++;
            }
            if (System.nanoTime() - said > 200_000_000L) {
                said = System.nanoTime();
                System.out.println("OPS " + ops);
            }
        }
        for (int key = 0; key < blocks; key++) {
            check(map.get(key), key, versions[key]);
        }
        System.out.println("VERIFIED " + blocks);
    }
}
