// FIR filter, scale, noise, bias, activation, gain and clamp: what the CPU and the GPU code share.
//
// Notation. z = FIR(x), p = z · scale[n, c] + noise[n, y, x] + bias[c], y = clamp(slope(p) · p). The activation is
// piecewise linear with a positive and a negative slope, which contain the gain, so its derivative m can be read off
// the result y. A limit of NaN is no clamp: every comparison with it is false.

#pragma once

#include "common.h"

namespace adaflow {

constexpr int kMaxTaps = 32;
constexpr std::int64_t kSlice = 512;  // pixels that a GPU sums at once; fused_kernels.py has the same number

// One axis of the filter: out[o] = Σ_k tap[k] · u[o · down - before + k], where u has in[i] at i · up, else zeros.
// The adjoint is an axis too: in and out, up and down change places, and the taps are reversed. taps == 0: no filter.
struct FirAxis {
    std::int64_t in, out, up, down, before, taps;
    double tap[kMaxTaps];
};

// The arguments of all three operations; each names those it reads. Images are [N, C, H, W] in memory, or [N, H, W, C]
// when `channels_last`, and have the storage type; the rest has the type to compute in.
struct FusedArgs {
    FirAxis rows, columns;
    std::int64_t batch, channels, channels_last;
    std::int64_t noise_stride;  // from the noise of one image to that of the next: 0 where all share it
    double positive, negative, limit;
    const void *x, *scale, *noise, *bias;  // scale [N, C], noise [N, H', W'], bias [C]; null is absent
    void* y;
    const void* dy;
    void *dx, *dscale, *dnoise, *dbias;  // null is not wanted
    const void *tx, *tscale, *tnoise, *tbias;  // tangents; null is zero
    void* ty;
    void* workspace;  // on GPUs, where dscale or dbias is wanted: [slices of kSlice pixels, N, C]
};

template <class A>
struct FusedActivation {
    A positive, negative, limit;
    A clipped;  // where |y| is at least this it was clamped: the limit, rounded as y is when it is stored

    // V is A, or a vector of it.
    template <class V>
    ADAFLOW_FN V operator()(V p) const {
        const V v = p * (p > A(0) ? positive : negative);
        return v > limit ? limit : (v < -limit ? -limit : v);
    }

    // Whether p is the result.
    bool nothing() const { return positive == A(1) && negative == A(1) && !(limit == limit); }

    // dy / dp, from the stored y
    template <class V>
    ADAFLOW_FN V slope(V y) const {
        const V m = y > A(0) ? positive : negative;
        return (y < A(0) ? -y : y) >= clipped ? A(0) : m;
    }
};

template <class S>
ADAFLOW_FN FusedActivation<typename accumulator<S>::type> fused_activation(const FusedArgs& args) {
    using A = typename accumulator<S>::type;
    const A limit = A(args.limit);
    return {A(args.positive), A(args.negative), limit, A(S(limit))};
}

template <class I>
ADAFLOW_FN I floor_div(I a, I b) {
    return a / b - (a % b != 0 && (a < 0) != (b < 0));
}

// What one output pixel is made of: in[source + m] · tap[first + m · up] for 0 <= m < count.
struct FirReach {
    int source, first, count;
};

template <class Axis>
ADAFLOW_FN FirReach fir_reach(const Axis& axis, int o) {
    const int up = static_cast<int>(axis.up), in = static_cast<int>(axis.in);
    const int start = o * static_cast<int>(axis.down) - static_cast<int>(axis.before);
    const int begin = -floor_div(-start, up);
    const int end = floor_div(start + static_cast<int>(axis.taps) - 1, up) + 1;
    const int source = begin < 0 ? 0 : begin < in ? begin : in;
    const int last = end < in ? end : in;
    return {source, source * up - start, last > source ? last - source : 0};
}

}  // namespace adaflow
