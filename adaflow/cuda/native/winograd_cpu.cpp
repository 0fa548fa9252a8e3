// 3 × 3 convolution and its weight gradient by Winograd's algorithm F(2 × 2, 3 × 3), on CPUs with AVX-512; on others these
// functions are not there.
//
// The products of winograd.h are summed over channels: that is a product of matrices for each of the 16. The weight
// gradient is the transpose of it, Gᵀ[Σ (Bᵀ d B) ⊗ (A dy Aᵀ)]G, the sum being over tiles, of 2 × 2 pixels each.
//
// Images have their channels innermost. A block of tiles is transformed, multiplied, and transformed back while it is in
// a cache. What is summed in which order depends on the shapes alone, so results do not depend on the number of threads.
// bf16 images are transformed in float32; what is multiplied is rounded to bf16, and summed in float32.

#ifdef __AVX512F__

#include <algorithm>
#include <new>

#include "winograd.h"

namespace {

using namespace adaflow::winograd;
using namespace adaflow;
using i64 = std::int64_t;

struct WinogradArgs {
    i64 batch, height, width, channels, filters;
    i64 w_filter, w_channel, w_y, w_x;  // strides of the weights, in elements
    const void *x, *dy;
    void *w, *y;
};

constexpr i64 kRows = 8;            // of the result that are kept in registers
constexpr i64 kBlock = 256 * 1024;  // bytes of transformed tiles in a block, about: part of a second cache
constexpr i64 kTiles = 256;         // in a block for a weight gradient: with fewer, sums are read and written too often
constexpr i64 kDeep = 64;           // of them are summed at a time, which also keeps rounding small

template <class T>
struct Memory {
    T* data;
    explicit Memory(i64 n) : data(static_cast<T*>(::operator new(n * sizeof(T), std::align_val_t(64)))) {}
    ~Memory() { ::operator delete(data, std::align_val_t(64)); }
    Memory(const Memory&) = delete;
};

struct Tiles {
    i64 across, per_image, count, width, height;

    explicit Tiles(const WinogradArgs& a)
        : across(a.width / 2), per_image(across * (a.height / 2)), count(a.batch * per_image), width(a.width), height(a.height) {}

    // First pixel of a tile of 2 × 2.
    void find(i64 tile, i64& image, i64& y, i64& x) const {
        image = tile / per_image;
        const i64 rest = tile % per_image;
        y = rest / across * 2, x = rest % across * 2;
    }
};

// Pointers to the 4 × 4 pixels around a tile; `zeros` beyond the border, and everywhere for tiles that are not there.
template <class S>
inline void around(const Tiles& tiles, const S* x, i64 channels, i64 tile, const S* zeros, const S* (&pixels)[16]) {
    i64 image, top, left;
    tiles.find(std::min(tile, tiles.count - 1), image, top, left);
    for (int dy = 0; dy < 4; ++dy)
        for (int dx = 0; dx < 4; ++dx) {
            const i64 r = top + dy - 1, c = left + dx - 1;
            const bool inside = tile < tiles.count && r >= 0 && r < tiles.height && c >= 0 && c < tiles.width;
            pixels[4 * dy + dx] = inside ? x + ((image * tiles.height + r) * tiles.width + c) * channels : zeros;
        }
}

// The same for the 2 × 2 pixels of a tile.
template <class S>
inline void within(const Tiles& tiles, S* y, i64 channels, i64 tile, S* nowhere, S* (&pixels)[4]) {
    i64 image, top, left;
    tiles.find(std::min(tile, tiles.count - 1), image, top, left);
    for (int i = 0; i < 4; ++i)
        pixels[i] = tile < tiles.count
                        ? y + ((image * tiles.height + top + i / 2) * tiles.width + left + i % 2) * channels
                        : nowhere;
}

template <int N, bool Add>
inline void finish(const __m512 (&sum)[kRows][N], float* c, i64 c_row) {
    for (int r = 0; r < kRows; ++r)
        for (int n = 0; n < N; ++n) {
            float* to = c + r * c_row + n * kLanes;
            store(to, Add ? load(to) + sum[r][n] : sum[r][n]);
        }
}

// c = Σ_k a[r][k] · b[k], for rows r < kRows and 16 · N columns; `Add`: that added to c. Not inlined, or its registers are
// not its own.
template <int N, bool Add>
__attribute__((noinline)) void multiply(i64 depth, const float* a, i64 a_row, i64 a_step, const float* b, i64 b_step,
                                        float* c, i64 c_row) {
    __m512 sum[kRows][N] = {};
    for (i64 k = 0; k < depth; ++k, a += a_step, b += b_step) {
        __m512 right[N];
        for (int n = 0; n < N; ++n) right[n] = load(b + n * kLanes);
        for (int r = 0; r < kRows; ++r) {
            const __m512 left = _mm512_set1_ps(a[r * a_row]);
            for (int n = 0; n < N; ++n) sum[r][n] = _mm512_fmadd_ps(left, right[n], sum[r][n]);
        }
    }
    finish<N, Add>(sum, c, c_row);
}

#ifdef __AVX512BF16__
// The same of pairs: `depth`, rows and steps count them.
template <int N, bool Add>
__attribute__((noinline)) void multiply(i64 depth, const bf16* pairs, i64 a_row, i64 a_step, const bf16* b, i64 b_step,
                                        float* c, i64 c_row) {
    const auto* a = reinterpret_cast<const std::int32_t*>(pairs);
    __m512 sum[kRows][N] = {};
    for (i64 k = 0; k < depth; ++k, a += a_step, b += 2 * b_step) {
        __m512bh right[N];
        for (int n = 0; n < N; ++n) right[n] = (__m512bh)_mm512_loadu_si512(b + n * 2 * kLanes);
        for (int r = 0; r < kRows; ++r) {
            const __m512bh left = (__m512bh)_mm512_set1_epi32(a[r * a_row]);
            for (int n = 0; n < N; ++n) sum[r][n] = _mm512_dpbf16_ps(sum[r][n], left, right[n]);
        }
    }
    finish<N, Add>(sum, c, c_row);
}
#endif

// How many columns of the result are made at a time.
i64 columns(i64 filters) { return filters % (2 * kLanes) == 0 ? 2 * kLanes : kLanes; }

// Room for n elements, a cache line more: sixteen arrays a power of two apart would compete for the same places in a cache.
template <class S>
i64 apart(i64 n) {
    return n + 64 / static_cast<i64>(sizeof(S));
}

i64 round_up(i64 n) { return (n + kRows - 1) / kRows * kRows; }

// Transformed weights, as [16][filters / columns][channels / pair][columns][pair].
template <class S>
void gather_weights(const WinogradArgs& a, S* out, i64 stride, i64 threads) {
    const i64 wide = columns(a.filters);
#pragma omp parallel for num_threads(threads) if (threads > 1) schedule(static)
    for (i64 f = 0; f < a.filters; f += kLanes)
        for (i64 c = 0; c < a.channels; c += pair<S>()) {
            __m512 u[pair<S>()][16];
            for (i64 k = 0; k < pair<S>(); ++k) {
                const S* from = static_cast<const S*>(a.w) + f * a.w_filter + (c + k) * a.w_channel;
                __m512 g[9];
                for (int i = 0; i < 9; ++i) {
                    const S* tap = from + i / 3 * a.w_y + i % 3 * a.w_x;
                    alignas(64) float lanes[kLanes];
                    for (i64 lane = 0; lane < kLanes; ++lane) lanes[lane] = tap[lane * a.w_filter];
                    g[i] = load(lanes);
                }
                transform_weights(g, u[k]);
            }
            S* to = out + (f / wide * a.channels + c) * wide + f % wide * pair<S>();
            for (int i = 0; i < 16; ++i) put(to + i * stride, u, i);
        }
}

template <class S>
void convolve(const WinogradArgs& a, i64 threads) {
    const Tiles tiles(a);
    const i64 wide = columns(a.filters), depth = a.channels / pair<S>();
    const i64 fitting = kBlock / (16 * a.channels * static_cast<i64>(sizeof(S)));
    // A tile's sums do not depend on the others in its block, so this may depend on the number of threads.
    const i64 block = round_up(std::min(std::clamp<i64>(fitting, 48, 256), (tiles.count + threads - 1) / threads));
    const i64 blocks = (tiles.count + block - 1) / block;
    const i64 next_weights = apart<S>(a.filters * a.channels), next_left = apart<S>(block * a.channels);
    const i64 next_product = apart<float>(block * wide);
    threads = std::min(threads, blocks);
    Memory<S> weights(16 * next_weights);
    gather_weights(a, weights.data, next_weights, threads);
    const S* x = static_cast<const S*>(a.x);
    S* y = static_cast<S*>(a.y);

#pragma omp parallel num_threads(threads) if (threads > 1)
    {
        Memory<S> left(16 * next_left), zeros(a.channels), nowhere(a.filters);
        Memory<float> product(16 * next_product);
        std::fill_n(zeros.data, a.channels, S(0.0f));
#pragma omp for schedule(static)
        for (i64 b = 0; b < blocks; ++b) {
            const i64 first = b * block, rows = round_up(std::min(block, tiles.count - first));
            for (i64 t = 0; t < rows; ++t) {
                const S* pixels[16];
                around(tiles, x, a.channels, first + t, zeros.data, pixels);
                for (i64 c = 0; c < a.channels; c += kLanes) {
                    __m512 d[16], v[16];
                    for (int i = 0; i < 16; ++i) d[i] = load(pixels[i] + c);
                    transform_input(d, v);
                    for (int i = 0; i < 16; ++i) store(left.data + i * next_left + t * a.channels + c, v[i]);
                }
            }
            for (i64 f = 0; f < a.filters; f += wide) {
                for (i64 i = 0; i < 16; ++i) {
                    const S* right = weights.data + i * next_weights + f * a.channels;
                    for (i64 t = 0; t < rows; t += kRows) {
                        const S* rows_of = left.data + i * next_left + t * a.channels;
                        float* to = product.data + i * next_product + t * wide;
                        if (wide == 2 * kLanes)
                            multiply<2, false>(depth, rows_of, depth, 1, right, wide, to, wide);
                        else
                            multiply<1, false>(depth, rows_of, depth, 1, right, wide, to, wide);
                    }
                }
                for (i64 t = 0; t < rows; ++t) {
                    S* pixels[4];
                    within(tiles, y, a.filters, first + t, nowhere.data, pixels);
                    for (i64 c = 0; c < wide; c += kLanes) {
                        __m512 m[16], out[4];
                        for (int i = 0; i < 16; ++i) m[i] = load(product.data + i * next_product + t * wide + c);
                        transform_output(m, out);
                        for (int i = 0; i < 4; ++i) store(pixels[i] + f + c, out[i]);
                    }
                }
            }
        }
    }
}

// Transformed tiles for a product over tiles, as [16][tiles / pair][channels][pair]: those of rows t and on, a pair of them.
template <int Count, class S, class Find, class Transform>
void gather(i64 t, i64 channels, S* out, i64 stride, Find&& find, Transform&& transform) {
    const S* pixels[pair<S>()][Count];
    for (i64 k = 0; k < pair<S>(); ++k) find(t + k, pixels[k]);
    for (i64 c = 0; c < channels; c += kLanes) {
        __m512 v[pair<S>()][16];
        for (i64 k = 0; k < pair<S>(); ++k) {
            __m512 d[Count];
            for (int i = 0; i < Count; ++i) d[i] = load(pixels[k][i] + c);
            transform(d, v[k]);
        }
        for (int i = 0; i < 16; ++i) put(out + i * stride + t * channels + c * pair<S>(), v, i);
    }
}

template <class S>
void weight_gradient(const WinogradArgs& a, i64 threads) {
    const Tiles tiles(a);
    const i64 wide = columns(a.filters), block = round_up(std::min(kTiles, tiles.count));
    const i64 next_left = apart<S>(block * a.channels), next_right = apart<S>(block * a.filters);
    const i64 next_sum = apart<float>(a.channels * a.filters);
    const S *x = static_cast<const S*>(a.x), *dy = static_cast<const S*>(a.dy);
    Memory<float> sums(16 * next_sum);
    Memory<S> left(16 * next_left), right(16 * next_right), zeros(std::max(a.channels, a.filters));
    std::fill_n(zeros.data, std::max(a.channels, a.filters), S(0.0f));
    std::fill_n(sums.data, 16 * next_sum, 0.0f);

#pragma omp parallel num_threads(threads) if (threads > 1)
    {
        for (i64 first = 0; first < tiles.count; first += block) {
            const i64 rows = round_up(std::min(block, tiles.count - first));
#pragma omp for schedule(static)
            for (i64 t = 0; t < rows; t += pair<S>()) {
                gather<16>(t, a.channels, left.data, next_left,
                           [&](i64 row, const S*(&p)[16]) { around(tiles, x, a.channels, first + row, zeros.data, p); },
                           [](const __m512(&d)[16], __m512(&v)[16]) { transform_input(d, v); });
                gather<4>(t, a.filters, right.data, next_right,
                          [&](i64 row, const S*(&p)[4]) { within<const S>(tiles, dy, a.filters, first + row, zeros.data, p); },
                          [](const __m512(&d)[4], __m512(&v)[16]) { transform_gradient(d, v); });
            }
#pragma omp for collapse(2) schedule(static)
            for (i64 i = 0; i < 16; ++i)
                for (i64 f = 0; f < a.filters; f += wide)
                    for (i64 t = 0; t < rows; t += kDeep)
                        for (i64 c = 0; c < a.channels; c += kRows) {
                            const i64 depth = std::min(kDeep, rows - t) / pair<S>();
                            const S* from = left.data + i * next_left + t * a.channels + c * pair<S>();
                            const S* by = right.data + i * next_right + t * a.filters + f * pair<S>();
                            float* to = sums.data + i * next_sum + c * a.filters + f;
                            if (wide == 2 * kLanes)
                                multiply<2, true>(depth, from, 1, a.channels, by, a.filters, to, a.filters);
                            else
                                multiply<1, true>(depth, from, 1, a.channels, by, a.filters, to, a.filters);
                        }
        }
#pragma omp for schedule(static)
        for (i64 c = 0; c < a.channels; ++c)
            for (i64 f = 0; f < a.filters; f += kLanes) {
                __m512 u[16], g[9];
                for (int i = 0; i < 16; ++i) u[i] = load(sums.data + i * next_sum + c * a.filters + f);
                transform_sums(u, g);
                S* w = static_cast<S*>(a.w) + c * a.w_channel + f * a.w_filter;
                for (int i = 0; i < 9; ++i) {
                    alignas(64) float lanes[kLanes];
                    store(lanes, g[i]);
                    S* tap = w + i / 3 * a.w_y + i % 3 * a.w_x;
                    for (i64 lane = 0; lane < kLanes; ++lane) tap[lane * a.w_filter] = S(lanes[lane]);
                }
            }
    }
}

}  // namespace

#define ADAFLOW_EXPORT(name, type)                                                                   \
    extern "C" int adaflow_winograd_forward_##name(const WinogradArgs* args, std::int64_t threads) { \
        convolve<type>(*args, threads);                                                              \
        return 0;                                                                                    \
    }                                                                                                \
    extern "C" int adaflow_winograd_weights_##name(const WinogradArgs* args, std::int64_t threads) { \
        weight_gradient<type>(*args, threads);                                                       \
        return 0;                                                                                    \
    }
ADAFLOW_EXPORT(f32, float)
#ifdef __AVX512BF16__
ADAFLOW_EXPORT(bf16, bf16)
#endif

#endif
