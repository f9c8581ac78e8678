import java.util.Arrays;
import java.util.HashMap;

/**
 * Fills most of a heap with maps, arrays and strings, churns it so that the collector runs, and checks all contents.
 *
 * <p>usage: java Heap.java BYTES ROUNDS
 */
public final class Heap {
    private static final int BLOCK_LONGS = 4096;

    private static long mix(long x) {
        x = (x ^ (x >>> 30)) * 0xbf58476d1ce4e5b9L;
        x = (x ^ (x >>> 27)) * 0x94d049bb133111ebL;
        return x ^ (x >>> 31);
    }

    private static long[] block(long key, long version) {
        long[] block = new long[BLOCK_LONGS];
        for (int at = 0; at < BLOCK_LONGS; at++) {
            block[at] = at < BLOCK_LONGS / 2 ? mix(key * 31 + version + at) : key ^ version;
        }
        return block;
    }

    private static long hash(HashMap<Long, long[]> map) {
        long hash = 0;
        for (var entry : map.entrySet()) {
            hash += mix(entry.getKey() ^ Arrays.hashCode(entry.getValue()));
        }
        return hash;
    }

    private static void must(boolean truth, String what) {
        if (!truth) {
            System.out.println("HEAP FAILED: " + what);
            System.exit(1);
        }
    }

    public static void main(String[] arguments) {
        long bytes = Long.parseLong(arguments[0]);
        int rounds = Integer.parseInt(arguments[1]);
        int keys = (int) (bytes / (BLOCK_LONGS * 8));
        var map = new HashMap<Long, long[]>();
        long[] versions = new long[keys];
        for (long key = 0; key < keys; key++) {
            map.put(key, block(key, 0));
        }
        long state = 1;
        for (int round = 1; round <= rounds; round++) {
            for (int change = 0; change < keys / 2; change++) {
                state = mix(state + 0x9e3779b97f4a7c15L);
                long key = Long.remainderUnsigned(state, keys);
                must(Arrays.equals(map.get(key), block(key, versions[(int) key])), "key " + key);
                map.put(key, block(key, ++versions[(int) key]));
            }
            var expected = new HashMap<Long, Long>();
            long hash = 0;
            for (long key = 0; key < keys; key++) {
                hash += mix(key ^ Arrays.hashCode(block(key, versions[(int) key])));
                expected.put(key, versions[(int) key]);
            }
            must(hash(map) == hash, "the hash of round " + round);
            must(expected.size() == map.size(), "the size of round " + round);
            sort(keys, round);
            System.out.println("round " + round);
        }
        System.gc();
        for (long key = 0; key < keys; key++) {
            must(Arrays.equals(map.get(key), block(key, versions[(int) key])), "key " + key + " at the end");
        }
        System.out.println("heap verified");
    }

    /** Sorts boxed numbers, which the collector has to follow one by one. */
    private static void sort(int keys, int round) {
        int count = keys * 64;
        Long[] numbers = new Long[count];
        long sum = 0;
        for (int at = 0; at < count; at++) {
            numbers[at] = mix(at + (long) round * count);
            sum += numbers[at];
        }
        Arrays.sort(numbers);
        for (int at = 0; at < count; at++) {
            sum -= numbers[at];
            must(at == 0 || numbers[at - 1] <= numbers[at], "the order at " + at);
        }
        must(sum == 0, "the sum of round " + round);
    }
}
