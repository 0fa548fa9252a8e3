// The fused operations on GPUs: a thread computes one number of the result, all taps of the filter at once.
//
// Sums are taken in two steps and without atomics: blocks sum slices of an image, then the slices are added in a fixed
// order. `Last` is whether channels are innermost in memory, `Filtered` whether there is a filter.

#include "fused.h"

namespace {

using namespace adaflow;
using i64 = std::int64_t;

constexpr int kLanes = 32, kGroups = 8, kThreads = kLanes * kGroups;
constexpr i64 kGridLimit = 65535;  // of the second and third size of a grid

i64 blocks_for(i64 n, i64 size) { return (n + size - 1) / size; }
unsigned at_most(i64 n) { return static_cast<unsigned>(n < kGridLimit ? n : kGridLimit); }

template <class A>
struct Axis {
    int in, out, up, down, before, taps;
    A tap[kMaxTaps];

    explicit Axis(const FirAxis& axis)
        : in(int(axis.in)), out(int(axis.out)), up(int(axis.up)), down(int(axis.down)), before(int(axis.before)),
          taps(int(axis.taps)) {
        for (int k = 0; k < taps; ++k) tap[k] = A(axis.tap[k]);
    }
};

// The arguments with their types.
template <class S, class A = typename accumulator<S>::type>
struct Typed {
    Axis<A> rows, columns;
    i64 batch, channels, noise_stride;
    FusedActivation<A> act;
    const S *x, *dy, *tx;
    const S* y;
    const A *scale, *noise, *bias, *tscale, *tnoise, *tbias;
    S *result, *dx, *ty;
    A *dscale, *dnoise, *dbias, *workspace;

    explicit Typed(const FusedArgs& a)
        : rows(a.rows), columns(a.columns), batch(a.batch), channels(a.channels), noise_stride(a.noise_stride),
          act(fused_activation<S>(a)), x((const S*)a.x), dy((const S*)a.dy), tx((const S*)a.tx), y((const S*)a.y),
          scale((const A*)a.scale), noise((const A*)a.noise), bias((const A*)a.bias), tscale((const A*)a.tscale),
          tnoise((const A*)a.tnoise), tbias((const A*)a.tbias), result((S*)a.y), dx((S*)a.dx), ty((S*)a.ty),
          dscale((A*)a.dscale), dnoise((A*)a.dnoise), dbias((A*)a.dbias), workspace((A*)a.workspace) {}
};

// Where number (channel, row, column) of an image is.
template <bool Last>
__device__ __forceinline__ i64 place(i64 image, i64 channels, int height, int width, int c, int row, int column) {
    if (Last) return ((image * height + row) * width + column) * channels + c;
    return ((image * channels + c) * height + row) * width + column;
}

// FIR of the image that `value(offset)` reads, at one pixel of the result.
template <bool Last, bool Filtered, class A, class F>
__device__ __forceinline__ A filter(const Axis<A>& rows, const Axis<A>& columns, i64 image, i64 channels, int c, int row,
                                    int column, F&& value) {
    if (!Filtered) return value(place<Last>(image, channels, rows.in, columns.in, c, row, column));
    const FirReach y = fir_reach(rows, row), x = fir_reach(columns, column);
    const i64 step = Last ? channels : 1;
    A sum = 0;
    for (int j = 0; j < y.count; ++j) {
        const i64 start = place<Last>(image, channels, rows.in, columns.in, c, y.source + j, x.source);
        A line = 0;
        for (int i = 0; i < x.count; ++i) line += columns.tap[x.first + i * columns.up] * value(start + i * step);
        sum += rows.tap[y.first + j * rows.up] * line;
    }
    return sum;
}

// f(image, channel, row, column) once for each number of the result; the grid is that of `launch`.
template <bool Last, class F>
__device__ __forceinline__ void each(i64 batch, int channels, int height, int width, F&& f) {
    const unsigned e = blockIdx.x * kThreads + threadIdx.x;
    if (e >= unsigned(channels) * height * width) return;
    const int inner = Last ? channels : width;
    const int i = e % inner, rest = e / inner;
    const int middle = Last ? width : height;
    const int m = rest % middle, o = rest / middle;
    for (i64 image = blockIdx.y; image < batch; image += gridDim.y) f(image, Last ? i : o, Last ? o : m, Last ? m : i);
}

template <class S, bool Last, bool Filtered>
__global__ void __launch_bounds__(kThreads) forward(const Typed<S> a) {
    using A = typename accumulator<S>::type;
    const int height = a.rows.out, width = a.columns.out;
    each<Last>(a.batch, a.channels, height, width, [&](i64 image, int c, int row, int column) {
        A p = filter<Last, Filtered>(a.rows, a.columns, image, a.channels, c, row, column, [&](i64 i) { return A(a.x[i]); });
        if (a.scale) p *= a.scale[image * a.channels + c];
        if (a.noise) p += a.noise[image * a.noise_stride + i64(row) * width + column];
        if (a.bias) p += a.bias[c];
        a.result[place<Last>(image, a.channels, height, width, c, row, column)] = S(a.act(p));
    });
}

template <class S, bool Last, bool Filtered>
__global__ void __launch_bounds__(kThreads) tangent(const Typed<S> a) {
    using A = typename accumulator<S>::type;
    const int height = a.rows.out, width = a.columns.out;
    each<Last>(a.batch, a.channels, height, width, [&](i64 image, int c, int row, int column) {
        const A scale = a.scale ? a.scale[image * a.channels + c] : A(1);
        const A tscale = a.tscale ? a.tscale[image * a.channels + c] : A(0);
        A p = filter<Last, Filtered>(a.rows, a.columns, image, a.channels, c, row, column, [&](i64 i) {
            A v = a.tx ? A(a.tx[i]) * scale : A(0);
            if (a.tscale) v += A(a.x[i]) * tscale;
            return v;
        });
        if (a.tnoise) p += a.tnoise[(image * height + row) * width + column];
        if (a.tbias) p += a.tbias[c];
        const i64 at = place<Last>(image, a.channels, height, width, c, row, column);
        a.ty[at] = S(a.y ? a.act.slope(A(a.y[at])) * p : a.act.positive * p);
    });
}

template <class S, class A = typename accumulator<S>::type>
__device__ __forceinline__ A masked(const Typed<S>& a, i64 i) {
    return A(a.dy[i]) * (a.y ? a.act.slope(A(a.y[i])) : a.act.positive);
}

// A block takes one slice of the pixels of an image, and one channel or, where those are innermost, 32 of them. Stores the
// sums of term(image, channel, row, column) in sums[slice, image, channel], if that is wanted. All threads must come here.
template <bool Last, class A, class F>
__device__ __forceinline__ void sum_slice(i64 batch, i64 channels, int height, int width, A* sums, F&& term) {
    __shared__ A partial[kThreads];
    const int lane = threadIdx.x % kLanes, group = threadIdx.x / kLanes;
    const int c = Last ? blockIdx.x * kLanes + lane : blockIdx.x;
    const i64 begin = blockIdx.y * kSlice, pixels = i64(height) * width;
    const i64 end = begin + kSlice < pixels ? begin + kSlice : pixels;
    for (i64 image = blockIdx.z; image < batch; image += gridDim.z) {
        A sum = 0;
        if (c < channels)
            for (i64 i = begin + (Last ? group : threadIdx.x); i < end; i += Last ? kGroups : kThreads)
                sum += term(image, c, int(i / width), int(i % width));
        if (!sums) continue;
        partial[threadIdx.x] = sum;
        __syncthreads();
        if (group == 0) {
            for (int k = 1; k < kGroups; ++k) sum += partial[k * kLanes + lane];
            partial[lane] = sum;
        }
        __syncthreads();
        A* to = sums + (blockIdx.y * batch + image) * channels;
        if (Last && group == 0 && c < channels) to[c] = sum;
        if (!Last && threadIdx.x == 0) {
            for (int k = 1; k < kLanes; ++k) sum += partial[k];
            to[c] = sum;
        }
        __syncthreads();
    }
}

// dx = FIRᵀ(m · dy) · scale, and the slices of dscale = Σ FIRᵀ(m · dy) · x.
template <class S, bool Last, bool Filtered>
__global__ void __launch_bounds__(kThreads) pull_back(const Typed<S> a, typename accumulator<S>::type* sums) {
    using A = typename accumulator<S>::type;
    const int height = a.rows.out, width = a.columns.out;
    sum_slice<Last>(a.batch, a.channels, height, width, sums, [&](i64 image, int c, int row, int column) {
        const A u = filter<Last, Filtered>(a.rows, a.columns, image, a.channels, c, row, column,
                                           [&](i64 i) { return masked(a, i); });
        const i64 at = place<Last>(image, a.channels, height, width, c, row, column);
        if (a.dx) a.dx[at] = S(a.scale ? u * a.scale[image * a.channels + c] : u);
        return sums ? u * A(a.x[at]) : A(0);
    });
}

// The slices of dbias = Σ m · dy.
template <class S, bool Last>
__global__ void __launch_bounds__(kThreads) sum_bias(const Typed<S> a, typename accumulator<S>::type* sums) {
    const int height = a.rows.in, width = a.columns.in;
    sum_slice<Last>(a.batch, a.channels, height, width, sums, [&](i64 image, int c, int row, int column) {
        return masked(a, place<Last>(image, a.channels, height, width, c, row, column));
    });
}

// dnoise = Σ m · dy over channels: a thread for each pixel, or, where channels are innermost, a warp.
template <class S, bool Last>
__global__ void __launch_bounds__(kThreads) sum_noise(const Typed<S> a) {
    using A = typename accumulator<S>::type;
    const i64 pixels = i64(a.rows.in) * a.columns.in, thread = i64(blockIdx.x) * kThreads + threadIdx.x;
    const i64 pixel = Last ? thread / kLanes : thread;
    if (pixel >= pixels) return;
    const int lane = Last ? threadIdx.x % kLanes : 0;
    for (i64 image = blockIdx.y; image < a.batch; image += gridDim.y) {
        A sum = 0;
        for (i64 c = lane; c < a.channels; c += Last ? kLanes : 1)
            sum += masked(a, Last ? (image * pixels + pixel) * a.channels + c : (image * a.channels + c) * pixels + pixel);
        if (Last)
            for (int k = kLanes / 2; k > 0; k /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, k);
        if (lane == 0) a.dnoise[image * pixels + pixel] = sum;
    }
}

// out[i] = Σ_k parts[k, i] for n numbers. A warp takes 32 of them, and one in kLanes of the k; their order is fixed.
template <class A>
__global__ void __launch_bounds__(kLanes * kLanes) add_up(const A* parts, i64 count, i64 n, A* out) {
    __shared__ double partial[kLanes][kLanes];
    const int lane = threadIdx.x % kLanes, group = threadIdx.x / kLanes;
    const i64 i = i64(blockIdx.x) * kLanes + lane;
    double sum = 0;
    if (i < n)
        for (i64 k = group; k < count; k += kLanes) sum += parts[k * n + i];
    partial[group][lane] = sum;
    __syncthreads();
    if (group > 0 || i >= n) return;
    for (int k = 1; k < kLanes; ++k) sum += partial[k][lane];
    out[i] = A(sum);
}

template <class A>
void run_add_up(const A* parts, i64 count, i64 n, A* out, cudaStream_t stream) {
    add_up<<<blocks_for(n, kLanes), kLanes * kLanes, 0, stream>>>(parts, count, n, out);
}

// A grid without blocks is an error: where there is nothing to compute no kernel is launched, and a sum of nothing is 0.
template <class S, bool Last, bool Filtered>
void run_forward(const Typed<S>& a, cudaStream_t stream) {
    const i64 n = a.channels * a.rows.out * a.columns.out;
    if (a.batch * n == 0) return;
    const dim3 grid(blocks_for(n, kThreads), at_most(a.batch));
    forward<S, Last, Filtered><<<grid, kThreads, 0, stream>>>(a);
}

template <class S, bool Last, bool Filtered>
void run_tangent(const Typed<S>& a, cudaStream_t stream) {
    const i64 n = a.channels * a.rows.out * a.columns.out;
    if (a.batch * n == 0) return;
    const dim3 grid(blocks_for(n, kThreads), at_most(a.batch));
    tangent<S, Last, Filtered><<<grid, kThreads, 0, stream>>>(a);
}

template <class S, bool Last, bool Filtered>
void run_backward(const Typed<S>& a, cudaStream_t stream) {
    using A = typename accumulator<S>::type;
    const i64 vectors = a.batch * a.channels, columns = Last ? blocks_for(a.channels, kLanes) : a.channels;
    if (vectors > 0 && (a.dx || a.dscale)) {
        const i64 slices = blocks_for(i64(a.rows.out) * a.columns.out, kSlice);
        A* sums = a.dscale ? a.workspace : nullptr;
        pull_back<S, Last, Filtered><<<dim3(columns, slices, at_most(a.batch)), kThreads, 0, stream>>>(a, sums);
        if (sums) run_add_up(sums, slices, vectors, a.dscale, stream);
    }
    const i64 pixels = i64(a.rows.in) * a.columns.in;
    if (a.channels > 0 && a.dbias) {
        const i64 slices = blocks_for(pixels, kSlice);
        if (a.batch > 0)
            sum_bias<S, Last><<<dim3(columns, slices, at_most(a.batch)), kThreads, 0, stream>>>(a, a.workspace);
        run_add_up(a.workspace, slices * a.batch, a.channels, a.dbias, stream);
    }
    if (a.batch > 0 && a.dnoise) {
        const dim3 grid(blocks_for(pixels * (Last ? kLanes : 1), kThreads), at_most(a.batch));
        sum_noise<S, Last><<<grid, kThreads, 0, stream>>>(a);
    }
}

}  // namespace

#define ADAFLOW_FUSED(operation, name, type)                                                            \
    extern "C" int adaflow_fused_##operation##_##name(const adaflow::FusedArgs* args, void* stream) {   \
        const Typed<type> a(*args);                                                                     \
        const auto s = static_cast<cudaStream_t>(stream);                                               \
        if (a.rows.taps > 0)                                                                            \
            args->channels_last ? run_##operation<type, true, true>(a, s) : run_##operation<type, false, true>(a, s);   \
        else                                                                                            \
            args->channels_last ? run_##operation<type, true, false>(a, s) : run_##operation<type, false, false>(a, s); \
        return cudaGetLastError();                                                                      \
    }

#define ADAFLOW_FUSED_TYPES(operation)    \
    ADAFLOW_FUSED(operation, f32, float)  \
    ADAFLOW_FUSED(operation, f64, double) \
    ADAFLOW_FUSED(operation, bf16, adaflow::bf16)

ADAFLOW_FUSED_TYPES(forward)
ADAFLOW_FUSED_TYPES(backward)
ADAFLOW_FUSED_TYPES(tangent)
