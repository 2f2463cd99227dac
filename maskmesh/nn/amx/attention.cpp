// Attention in bfloat16 on the matrix units (AMX) of a processor, one chunk of keys after another.
//
// Source: Dao et al., "FlashAttention" (2022), for sums over chunks of keys without a complete row of
// weights; Milakov and Gimelshein, "Online normalizer calculation for softmax" (2018).
//
// A matrix unit reads tiles of 1 KiB, which have 16 rows of 64 bytes:
//   queries and weights: 16 rows of 32 elements, one tile for each 32 elements of a row;
//   keys: for 16 keys and 32 of their channels, row r holds channels 2r and 2r + 1 of each key;
//   values: for 32 keys and 16 of their channels, row r holds keys 2r and 2r + 1, channel by channel.
// Scores and sums are tiles of 16 x 16 float32.
//
// The interface is C, so that no library is linked and no header of another project is needed.  Its
// arguments are addresses, sizes, and the parallel loop of the caller's framework.

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstring>
#include <limits>
#include <memory>
#include <new>

#if defined(__x86_64__) && defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>

extern "C" int maskmesh_amx_is_available() {
  // Linux grants the tile registers only to processes that request them.
  constexpr long kRequestPermission = 0x1023, kTileData = 18;
  return __builtin_cpu_supports("amx-tile") && __builtin_cpu_supports("amx-bf16") &&
         __builtin_cpu_supports("avx512bf16") && __builtin_cpu_supports("avx512bw") &&
         syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}

#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,amx-tile,amx-bf16")
#include <immintrin.h>

namespace {

using bf16 = uint16_t;

constexpr int64_t kTile = 512;           // bfloat16 elements of a tile; a tile has 256 of float32
constexpr int64_t kSide = 16;            // rows of a tile, and columns of float32
constexpr int64_t kDepth = 32;           // bfloat16 elements in a row of a tile
constexpr int64_t kRows = 32;            // queries that are scored together
constexpr int64_t kQueries = 256;        // queries of a block; it fits a core's cache with a chunk of keys
constexpr int64_t kChunk = 256;          // keys of a chunk
constexpr int64_t kMaxWidth = 256;       // channels of queries, keys or values
constexpr float kLog2E = 1.4426950408889634f;

int64_t up(int64_t count, int64_t unit) { return (count + unit - 1) / unit * unit; }

struct alignas(64) TileConfig {
  uint8_t palette = 1, start = 0, reserved[14] = {};
  uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};

// Configures the tile registers of this thread, and releases them in its destructor.
struct Tiles {
  Tiles() {
    static const TileConfig config;
    _tile_loadconfig(&config);
  }
  ~Tiles() { _tile_release(); }
};

inline __m512 widen(__m256i numbers) {
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(numbers), 16));
}

inline __m256i load16(const bf16* from) {
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
}

inline __m256i narrow(__m512 numbers) { return (__m256i)_mm512_cvtneps_pbh(numbers); }

// Interleaves two rows: a0 b0 a1 b1 ...
inline __m512i by_turns(__m256i a, __m256i b) {
  return _mm512_or_si512(_mm512_cvtepu16_epi32(a), _mm512_slli_epi32(_mm512_cvtepu16_epi32(b), 16));
}

// Transposes a tile of 16 x 16 words of 32 bits.
inline void transpose(__m512i (&x)[16], bf16* to) {
  __m512i y[16];
  for (int i = 0; i < 16; i += 2) {
    y[i] = _mm512_unpacklo_epi32(x[i], x[i + 1]);
    y[i + 1] = _mm512_unpackhi_epi32(x[i], x[i + 1]);
  }
  for (int i = 0; i < 16; i += 4) {
    x[i] = _mm512_unpacklo_epi64(y[i], y[i + 2]);
    x[i + 1] = _mm512_unpackhi_epi64(y[i], y[i + 2]);
    x[i + 2] = _mm512_unpacklo_epi64(y[i + 1], y[i + 3]);
    x[i + 3] = _mm512_unpackhi_epi64(y[i + 1], y[i + 3]);
  }
  for (int i = 0; i < 4; ++i) {
    y[i] = _mm512_shuffle_i32x4(x[i], x[i + 4], 0x88);
    y[i + 4] = _mm512_shuffle_i32x4(x[i], x[i + 4], 0xdd);
    y[i + 8] = _mm512_shuffle_i32x4(x[i + 8], x[i + 12], 0x88);
    y[i + 12] = _mm512_shuffle_i32x4(x[i + 8], x[i + 12], 0xdd);
  }
  for (int i = 0; i < 4; ++i) {
    _mm512_storeu_si512(to + (i)*kDepth, _mm512_shuffle_i32x4(y[i], y[i + 8], 0x88));
    _mm512_storeu_si512(to + (i + 4) * kDepth, _mm512_shuffle_i32x4(y[i + 4], y[i + 12], 0x88));
    _mm512_storeu_si512(to + (i + 8) * kDepth, _mm512_shuffle_i32x4(y[i], y[i + 8], 0xdd));
    _mm512_storeu_si512(to + (i + 12) * kDepth, _mm512_shuffle_i32x4(y[i + 4], y[i + 12], 0xdd));
  }
}

// Packs keys, which are rows of `width` channels, into tiles of 16 keys; the channel varies fastest.
void pack_keys(const bf16* keys, int64_t row, int64_t count, int64_t width, bf16* to) {
  for (int64_t first = 0; first < up(count, 2 * kSide); first += kSide) {
    for (int64_t channel = 0; channel < width; channel += kDepth, to += kTile) {
      __m512i rows[16];
      for (int64_t i = 0; i < kSide; ++i)
        rows[i] = first + i < count ? _mm512_loadu_si512(keys + (first + i) * row + channel)
                                    : _mm512_setzero_si512();
      transpose(rows, to);
    }
  }
}

// Packs values, which are rows of `width` channels, into tiles of 32 keys; the channel varies fastest.
void pack_values(const bf16* values, int64_t row, int64_t count, int64_t width, bf16* to) {
  const __m256i none = _mm256_setzero_si256();
  for (int64_t first = 0; first < up(count, kDepth); first += kDepth)
    for (int64_t channel = 0; channel < width; channel += kSide)
      for (int64_t key = first; key < first + kDepth; key += 2, to += kDepth) {
        const bf16* from = values + key * row + channel;
        _mm512_storeu_si512(to, by_turns(key < count ? load16(from) : none,
                                         key + 1 < count ? load16(from + row) : none));
      }
}

// Working memory of one thread.
struct Scratch {
  alignas(64) bf16 queries[kQueries * kMaxWidth];
  alignas(64) float sums[kQueries * kMaxWidth];
  alignas(64) float scores[kRows * kChunk];
  alignas(64) bf16 weights[kRows * kChunk];
  alignas(64) float total[kQueries * kSide];
  alignas(64) float largest[kQueries];
};

// Computes the scores of 32 queries with `count` keys (a multiple of 32): a tile for each 16 queries and 16
// keys.
inline void score(const bf16* queries, const bf16* keys, int64_t count, int64_t width, float* scores) {
  const int64_t steps = width / kDepth;
  for (int64_t key = 0; key < count; key += 2 * kSide) {
    const bf16 *left = keys + key * width, *right = left + steps * kTile;
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    for (int64_t i = 0; i < steps; ++i) {
      _tile_loadd(4, queries + i * kTile, 64);
      _tile_loadd(6, left + i * kTile, 64);
      _tile_dpbf16ps(0, 4, 6);
      _tile_loadd(7, right + i * kTile, 64);
      _tile_dpbf16ps(1, 4, 7);
      _tile_loadd(5, queries + (steps + i) * kTile, 64);
      _tile_dpbf16ps(2, 5, 6);
      _tile_dpbf16ps(3, 5, 7);
    }
    float* to = scores + key * kSide;
    _tile_stored(0, to, 64);
    _tile_stored(1, to + 256, 64);
    _tile_stored(2, to + kChunk * kSide, 64);
    _tile_stored(3, to + kChunk * kSide + 256, 64);
  }
}

// Adds the weighted values of `count` keys (a multiple of 32) to the sums of 32 queries.
inline void weigh(const bf16* weights, const bf16* values, int64_t count, int64_t width, bool is_first,
                  float* sums) {
  const int64_t groups = width / kSide, steps = count / kDepth;
  for (int64_t group = 0; group < groups; group += 2) {
    const bool is_pair = group + 1 < groups;
    float *upper = sums + group * 256, *lower = upper + width * kSide;
    if (is_first) {
      _tile_zero(0);
      _tile_zero(1);
      _tile_zero(2);
      _tile_zero(3);
    } else {
      _tile_loadd(0, upper, 64);
      _tile_loadd(2, lower, 64);
      if (is_pair) {
        _tile_loadd(1, upper + 256, 64);
        _tile_loadd(3, lower + 256, 64);
      }
    }
    for (int64_t i = 0; i < steps; ++i) {
      const bf16* from = values + (i * groups + group) * kTile;
      _tile_loadd(4, weights + i * kTile, 64);
      _tile_loadd(5, weights + kSide * kChunk + i * kTile, 64);
      _tile_loadd(6, from, 64);
      _tile_dpbf16ps(0, 4, 6);
      _tile_dpbf16ps(2, 5, 6);
      if (is_pair) {
        _tile_loadd(7, from + kTile, 64);
        _tile_dpbf16ps(1, 4, 7);
        _tile_dpbf16ps(3, 5, 7);
      }
    }
    _tile_stored(0, upper, 64);
    _tile_stored(2, lower, 64);
    if (is_pair) {
      _tile_stored(1, upper + 256, 64);
      _tile_stored(3, lower + 256, 64);
    }
  }
}

// 2 to the power of x <= 0, with a relative error of 1e-4; that of bfloat16 is 1/200.
inline __m512 power_of_2(__m512 x) {
  const __m512 fraction = _mm512_reduce_ps(x, 0x09);  // x - floor(x)
  __m512 y = _mm512_set1_ps(0.0790221f);
  y = _mm512_fmadd_ps(y, fraction, _mm512_set1_ps(0.2241251f));
  y = _mm512_fmadd_ps(y, fraction, _mm512_set1_ps(0.6968545f));
  y = _mm512_fmadd_ps(y, fraction, _mm512_set1_ps(0.9998896f));
  return _mm512_scalef_ps(y, x);
}

// Converts the scores of one query with `count` keys to weights relative to the largest score so far, and
// rescales the earlier sums if the largest score has changed.
inline void exponentiate(const float* scores, int64_t count, float scale, bf16* weights, float* largest,
                         float* total, float* sums, int64_t width, bool is_first) {
  const int64_t whole = count / kSide, rest = count % kSide;
  const __mmask16 last = (1u << rest) - 1;
  const __m512 never = _mm512_set1_ps(-std::numeric_limits<float>::infinity());
  __m512 maximum = rest ? _mm512_mask_loadu_ps(never, last, scores + whole * 256) : never;
  for (int64_t i = 0; i < whole; ++i) maximum = _mm512_max_ps(maximum, _mm512_load_ps(scores + i * 256));
  if (is_first) {
    *largest = _mm512_reduce_max_ps(maximum);
    _mm512_store_ps(total, _mm512_setzero_ps());
  } else if (_mm512_cmp_ps_mask(maximum, _mm512_set1_ps(*largest), _CMP_GT_OQ)) {
    const float now = _mm512_reduce_max_ps(maximum);
    const __m512 less = power_of_2(_mm512_set1_ps((*largest - now) * scale));
    *largest = now;
    _mm512_store_ps(total, _mm512_mul_ps(_mm512_load_ps(total), less));
    for (int64_t channel = 0; channel < width; channel += kSide) {
      float* sum = sums + channel * kSide;
      _mm512_store_ps(sum, _mm512_mul_ps(_mm512_load_ps(sum), less));
    }
  }
  const __m512 factor = _mm512_set1_ps(scale), shift = _mm512_set1_ps(*largest * scale);
  __m512 sum = _mm512_load_ps(total);
  for (int64_t i = 0; i < whole; ++i) {
    const __m512 y = power_of_2(_mm512_fmsub_ps(_mm512_load_ps(scores + i * 256), factor, shift));
    sum = _mm512_add_ps(sum, y);
    // A row of a tile of weights has as many elements as the rows of two tiles of scores.
    _mm256_store_si256(reinterpret_cast<__m256i*>(weights + i / 2 * kTile + i % 2 * kSide), narrow(y));
  }
  for (int64_t i = whole; i < up(count, kDepth) / kSide; ++i) {
    __m512 y = _mm512_setzero_ps();
    if (i == whole && rest)
      y = _mm512_maskz_mov_ps(last,
                              power_of_2(_mm512_fmsub_ps(_mm512_load_ps(scores + i * 256), factor, shift)));
    sum = _mm512_add_ps(sum, y);
    _mm256_store_si256(reinterpret_cast<__m256i*>(weights + i / 2 * kTile + i % 2 * kSide), narrow(y));
  }
  _mm512_store_ps(total, sum);
}

// Attention of up to `kQueries` queries to packed keys and values.
void attend_block(const bf16* query, int64_t query_row, int64_t queries, const bf16* keys,
                  const bf16* values, int64_t count, int64_t key_width, int64_t value_width, float scale,
                  bf16* out, int64_t out_row, Scratch& scratch) {
  const int64_t padded = up(queries, kRows);
  for (int64_t row = 0; row < padded; ++row)
    for (int64_t channel = 0; channel < key_width; channel += kDepth) {
      const __m512i numbers =
          row < queries ? _mm512_loadu_si512(query + row * query_row + channel) : _mm512_setzero_si512();
      bf16* tile = scratch.queries + row / kSide * kSide * key_width + channel / kDepth * kTile;
      _mm512_store_si512(tile + row % kSide * kDepth, numbers);
    }
  for (int64_t first = 0; first < count; first += kChunk) {
    const int64_t here = std::min(kChunk, count - first), rounded = up(here, kDepth);
    for (int64_t row = 0; row < padded; row += kRows) {
      score(scratch.queries + row * key_width, keys + first * key_width, rounded, key_width, scratch.scores);
      for (int64_t i = 0; i < kRows; ++i) {
        const int64_t tile = i / kSide * kSide, inside = i % kSide;
        exponentiate(scratch.scores + tile * kChunk + inside * kSide, here, scale,
                     scratch.weights + tile * kChunk + inside * kDepth, scratch.largest + row + i,
                     scratch.total + (row + i) * kSide,
                     scratch.sums + (row + tile) * value_width + inside * kSide, value_width, first == 0);
      }
      weigh(scratch.weights, values + first * value_width, rounded, value_width, first == 0,
            scratch.sums + row * value_width);
    }
  }
  for (int64_t row = 0; row < queries; ++row) {
    const __m512 share =
        _mm512_set1_ps(1.0f / _mm512_reduce_add_ps(_mm512_load_ps(scratch.total + row * kSide)));
    const float* sums = scratch.sums + row / kSide * kSide * value_width + row % kSide * kSide;
    for (int64_t channel = 0; channel < value_width; channel += kSide)
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + row * out_row + channel),
                          narrow(_mm512_mul_ps(_mm512_load_ps(sums + channel * kSide), share)));
  }
}

using Range = void (*)(int64_t, int64_t, void*);
using ParallelFor = int (*)(int64_t, int64_t, int64_t, Range, void*);

// Runs `task` for each index below `count`; each thread takes the next index when it is idle.
template <class Task>
void for_each(int64_t count, int64_t threads, ParallelFor parallel_for, const Task& task) {
  struct Work {
    const Task& task;
    std::atomic<int64_t> next;
    int64_t count;
  } work{task, {0}, count};
  const Range run = [](int64_t begin, int64_t end, void* context) {
    if (begin == end) return;
    Work& work = *static_cast<Work*>(context);
    Tiles tiles;
    const std::unique_ptr<Scratch> scratch(new Scratch);
    for (int64_t i; (i = work.next.fetch_add(1)) < work.count;) work.task(i, *scratch);
  };
  parallel_for(0, std::min(threads, count), 1, run, &work);
}

// An array of bfloat16 that is aligned to a cache line.
struct Buffer {
  explicit Buffer(int64_t count) : data(static_cast<bf16*>(operator new(count * sizeof(bf16), kAlignment))) {}
  Buffer(const Buffer&) = delete;
  ~Buffer() { operator delete(data, kAlignment); }
  bf16* const data;
  static constexpr std::align_val_t kAlignment{64};
};

// Computes keys of memories, 16 at a time: projects them, rotates them by their positions, and packs them.
struct MemoryKeys {
  const bf16* placed;  // [in, count]: memories plus their positional encoding
  const bf16* weight;  // [width, in]
  const bf16* bias;    // [width]
  const bf16* cosines;  // [width, places]: equal for both channels of a pair
  const bf16* sines;    // [width, places]: negative for the first channel of a pair
  int64_t count, turned, places, in, width;

  void pack(int64_t first, bf16* to, Scratch& scratch) const {
    const __mmask16 here = count - first < kSide ? (1u << (count - first)) - 1 : 0xffff;
    for (int64_t i = 0; i < in / 2; ++i) {
      const bf16* from = placed + 2 * i * count + first;
      _mm512_store_si512(scratch.weights + i * kDepth, by_turns(_mm256_maskz_loadu_epi16(here, from),
                                                                _mm256_maskz_loadu_epi16(here, from + count)));
    }
    const bool turns = first < turned;
    for (int64_t channel = 0; channel < width; channel += kSide) {
      _tile_zero(0);
      for (int64_t i = 0; i < in / kDepth; ++i) {
        _tile_loadd(4, weight + channel * in + i * kDepth, in * 2);
        _tile_loadd(6, scratch.weights + i * kTile, 64);
        _tile_dpbf16ps(0, 4, 6);
      }
      float* rows = scratch.scores;
      _tile_stored(0, rows, 64);
      for (int64_t row = channel; row < channel + kSide; row += 2, rows += 2 * kSide, to += kDepth) {
        __m512 x = _mm512_add_ps(_mm512_load_ps(rows), number(bias[row]));
        __m512 y = _mm512_add_ps(_mm512_load_ps(rows + kSide), number(bias[row + 1]));
        if (turns) {
          const int64_t at = (row + 1) * places + first % places;
          const __m512 cosine = widen(load16(cosines + at)), sine = widen(load16(sines + at));
          const __m512 turned_x = _mm512_fnmadd_ps(y, sine, _mm512_mul_ps(x, cosine));
          y = _mm512_fmadd_ps(x, sine, _mm512_mul_ps(y, cosine));
          x = turned_x;
        }
        _mm512_store_si512(to, by_turns(narrow(x), narrow(y)));
      }
    }
  }

  static __m512 number(bf16 x) { return _mm512_castsi512_ps(_mm512_set1_epi32(uint32_t{x} << 16)); }
};

// Packs the values of 32 keys into tiles, from an array [width, count] with channels first.
void pack_columns(const bf16* values, int64_t count, int64_t first, int64_t width, bf16* to) {
  const __mmask32 here = count - first < kDepth ? (1u << (count - first)) - 1 : 0xffffffff;
  for (int64_t channel = 0; channel < width; channel += kSide, to += kTile) {
    __m512i rows[16];
    for (int64_t i = 0; i < kSide; ++i)
      rows[i] = _mm512_maskz_loadu_epi16(here, values + (channel + i) * count + first);
    transpose(rows, to);
  }
}

}  // namespace

extern "C" {

// A tensor [batch, rows, heads, width]; strides are in elements, that of the last dimension is 1.
struct Tensor {
  bf16* data;
  int64_t batch, row, head;
};

// Attention of all heads: query and out [batch, queries, heads, .], key and value [batch, keys, heads, .].
void maskmesh_amx_attend(const Tensor* query, const Tensor* key, const Tensor* value, const Tensor* out,
                         int64_t batch, int64_t heads, int64_t queries, int64_t keys, int64_t key_width,
                         int64_t value_width, float scale, int64_t threads, ParallelFor parallel_for) {
  const int64_t padded = up(keys, kDepth), size = padded * (key_width + value_width);
  const int64_t blocks = (queries + kQueries - 1) / kQueries, pairs = batch * heads;
  scale *= kLog2E;
  const auto pack = [&](int64_t pair, int64_t first, int64_t count, bf16* to) {
    const int64_t b = pair / heads, h = pair % heads;
    pack_keys(key->data + b * key->batch + first * key->row + h * key->head, key->row, count, key_width,
              to + first * key_width);
    pack_values(value->data + b * value->batch + first * value->row + h * value->head, value->row, count,
                value_width, to + padded * key_width + first * value_width);
  };
  const auto attend = [&](int64_t pair, int64_t block, const bf16* packed, Scratch& scratch) {
    const int64_t b = pair / heads, h = pair % heads, first = block * kQueries;
    attend_block(query->data + b * query->batch + first * query->row + h * query->head, query->row,
                 std::min(kQueries, queries - first), packed, packed + padded * key_width, keys, key_width,
                 value_width, scale, out->data + b * out->batch + first * out->row + h * out->head,
                 out->row, scratch);
  };
  if (blocks == 1) {  // windows
    for_each(pairs, threads, parallel_for, [&](int64_t pair, Scratch& scratch) {
      const Buffer packed(size);
      pack(pair, 0, keys, packed.data);
      attend(pair, 0, packed.data, scratch);
    });
    return;
  }
  const Buffer packed(pairs * size);
  const int64_t chunks = (keys + kChunk - 1) / kChunk;
  for_each(pairs * chunks, threads, parallel_for, [&](int64_t i, Scratch&) {
    const int64_t first = i % chunks * kChunk;
    pack(i / chunks, first, std::min(kChunk, keys - first), packed.data + i / chunks * size);
  });
  for_each(pairs * blocks, threads, parallel_for, [&](int64_t i, Scratch& scratch) {
    attend(i / blocks, i % blocks, packed.data + i / blocks * size, scratch);
  });
}

// Packs keys and values of one object's memories for `maskmesh_amx_attend_packed`; shapes as in MemoryKeys.
void maskmesh_amx_pack_memories(const bf16* placed, const bf16* memories, const bf16* weight,
                                const bf16* bias, const bf16* cosines, const bf16* sines, int64_t count,
                                int64_t turned, int64_t places, int64_t in, int64_t width, bf16* packed,
                                int64_t threads, ParallelFor parallel_for) {
  const MemoryKeys keys{placed, weight, bias, cosines, sines, count, turned, places, in, width};
  const int64_t padded = up(count, kDepth), chunks = (count + kChunk - 1) / kChunk;
  for_each(chunks, threads, parallel_for, [&](int64_t chunk, Scratch& scratch) {
    for (int64_t key = chunk * kChunk; key < std::min((chunk + 1) * kChunk, padded); key += kDepth) {
      keys.pack(key, packed + key * width, scratch);
      keys.pack(key + kSide, packed + (key + kSide) * width, scratch);
      pack_columns(memories, count, key, in, packed + padded * width + key * in);
    }
  });
}

// Attention to packed keys and values with one head: query [queries, width], out [queries, value_width].
void maskmesh_amx_attend_packed(const bf16* query, int64_t query_row, int64_t queries, const bf16* packed,
                                int64_t count, int64_t width, int64_t value_width, float scale, bf16* out,
                                int64_t out_row, int64_t threads, ParallelFor parallel_for) {
  const bf16* values = packed + up(count, kDepth) * width;
  for_each((queries + kQueries - 1) / kQueries, threads, parallel_for, [&](int64_t i, Scratch& scratch) {
    const int64_t first = i * kQueries;
    attend_block(query + first * query_row, query_row, std::min(kQueries, queries - first), packed, values,
                 count, width, value_width, scale * kLog2E, out + first * out_row, out_row, scratch);
  });
}

}  // extern "C"

#pragma GCC pop_options

#else

extern "C" int maskmesh_amx_is_available() { return 0; }

#endif
