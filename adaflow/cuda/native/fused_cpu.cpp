// The fused operations on CPUs.
//
// Work is divided into chunks: some rows of one image, all channels. How depends on the shapes alone, each chunk writes
// rows of its own, and sums over chunks are taken in their order, so results do not depend on the number of threads.
// Within a chunk row after row is filtered and finished in the first cache. `Last` is whether channels are innermost in
// memory; rows are then vectorised over channels, otherwise over x.

#include "fused_filter.h"
#include "lanes.h"

namespace {

using namespace adaflow;
using fir::Buffer;
using i64 = std::int64_t;

constexpr i64 kChunk = 131072;    // elements in a chunk, about: some fill a cache, and few rows are filtered twice
constexpr i64 kParallel = 32768;  // elements from which on threads are worth waking

// Where rows of images are.
template <bool Last>
struct Layout {
    i64 channels, height, width;

    i64 planes() const { return Last ? 1 : channels; }
    i64 row() const { return Last ? width * channels : width; }
    i64 at(i64 image, i64 plane, i64 y) const { return ((image * planes() + plane) * height + y) * row(); }
};

struct Chunks {
    i64 rows, per_image, count, threads;

    Chunks(i64 batch, i64 height, i64 row, i64 threads_) {
        rows = std::clamp<i64>(kChunk / std::max<i64>(row, 1), 4, std::max<i64>(height, 4));
        per_image = (height + rows - 1) / rows;
        count = batch * per_image;
        threads = batch * height * row < kParallel ? 1 : std::min(threads_, count);
    }
};

// f(element, channel, pixel) for each element of a row of S, channel counted from that of the row; no two may touch.
// Element and channel may be Lanes.
template <class S, bool Last, class F>
void each(i64 width, i64 channels, F&& f) {
    if constexpr (Last && has_lanes<S>) {
        if (channels % kLanes == 0) {
            for (i64 o = 0; o < width; ++o)
                for (i64 i = 0; i < channels; i += kLanes) f(Lanes{o * channels + i}, Lanes{i}, o);
            return;
        }
    }
    const i64 outer = Last ? width : 1, inner = Last ? channels : width;
    for (i64 o = 0; o < outer; ++o)
#pragma omp simd
        for (i64 i = 0; i < inner; ++i) f(o * inner + i, Last ? i : 0, Last ? o : i);
}

// totals[channel] += Σ g · x over a row, or Σ g where x is null; `partial` has room for the channels of the row.
template <bool Last, class A, class S>
void sum_over_pixels(i64 width, i64 channels, const A* __restrict g, const S* __restrict x, A* __restrict partial,
                     double* __restrict totals) {
    if (!Last) {
        A sum = 0;
        if (x) {
#pragma omp simd reduction(+ : sum)
            for (i64 i = 0; i < width; ++i) sum += g[i] * A(x[i]);
        } else {
#pragma omp simd reduction(+ : sum)
            for (i64 i = 0; i < width; ++i) sum += g[i];
        }
        totals[0] += sum;
        return;
    }
    std::fill_n(partial, channels, A(0));
    for (i64 o = 0; o < width; ++o, g += channels) {
        if (x) {
#pragma omp simd
            for (i64 i = 0; i < channels; ++i) partial[i] += g[i] * A(x[i]);
            x += channels;
        } else {
#pragma omp simd
            for (i64 i = 0; i < channels; ++i) partial[i] += g[i];
        }
    }
    for (i64 i = 0; i < channels; ++i) totals[i] += partial[i];
}

// totals[pixel] += the sum of row over the channels in it.
template <bool Last, class A>
void sum_over_channels(i64 width, i64 channels, const A* __restrict row, A* __restrict totals) {
    if (!Last) {
#pragma omp simd
        for (i64 i = 0; i < width; ++i) totals[i] += row[i];
        return;
    }
    for (i64 o = 0; o < width; ++o) {
        A sum = 0;
#pragma omp simd reduction(+ : sum)
        for (i64 i = 0; i < channels; ++i) sum += row[o * channels + i];
        totals[o] += sum;
    }
}

// f(a, b, c) with the truth of three pointers as constants.
template <class F>
void with_or_without(const void* a, const void* b, const void* c, F&& f) {
    const auto third = [&](auto first, auto second) {
        c ? f(first, second, std::true_type()) : f(first, second, std::false_type());
    };
    const auto second = [&](auto first) { b ? third(first, std::true_type()) : third(first, std::false_type()); };
    a ? second(std::true_type()) : second(std::false_type());
}

// out[i] = Σ_k parts[k][i]
template <class A>
void add_up(const double* parts, i64 count, i64 n, A* out) {
    for (i64 i = 0; i < n; ++i) {
        double sum = 0;
        for (i64 k = 0; k < count; ++k) sum += parts[k * n + i];
        out[i] = A(sum);
    }
}

// A row of the derivative where there is no filter and channels are innermost, in one go: m · dy · scale, and what it adds
// to the sums over pixels of m · dy, and of m · dy · x if X, and over channels, if Noise. Y: m differs from pixel to pixel.
template <bool Y, bool X, bool Noise, class S, class A>
void pull_back_row(i64 width, i64 channels, const S* __restrict dy, const S* __restrict y, const S* __restrict x,
                   const A* __restrict scale, const FusedActivation<A>& act, S* __restrict dx, A* __restrict dbias,
                   A* __restrict dscale, A* __restrict dnoise) {
    for (i64 o = 0; o < width; ++o, dy += channels, dx += channels, y += Y ? channels : 0, x += X ? channels : 0) {
        const auto add = [&](auto c, auto& sum) {
            auto g = get(dy, c) * act.positive;
            if constexpr (Y) g = get(dy, c) * act.slope(get(y, c));
            put(dx, c, g * get(scale, c));
            put(dbias, c, get(dbias, c) + g);
            if constexpr (X) put(dscale, c, get(dscale, c) + g * get(x, c));
            if constexpr (Noise) sum += g;
        };
        if constexpr (has_lanes<S>) {
            if (channels % kLanes == 0) {
                decltype(get(dy, Lanes())) sums{};
                for (i64 c = 0; c < channels; c += kLanes) add(Lanes{c}, sums);
                if (Noise) dnoise[o] = total(sums);
                continue;
            }
        }
        A sum = 0;
#pragma omp simd reduction(+ : sum)
        for (i64 c = 0; c < channels; ++c) add(c, sum);
        if (Noise) dnoise[o] = sum;
    }
}

template <class S, bool Last>
void forward(const FusedArgs& args, i64 threads) {
    using A = typename accumulator<S>::type;
    const bool filtered = args.rows.taps > 0;
    const i64 channels = args.channels, width = args.columns.out;
    const Layout<Last> in{channels, args.rows.in, args.columns.in}, out{channels, args.rows.out, width};
    const Chunks chunks(args.batch, args.rows.out, width * channels, threads);
    const auto act = fused_activation<S>(args);
    const S* x = static_cast<const S*>(args.x);
    S* y = static_cast<S*>(args.y);

#pragma omp parallel num_threads(chunks.threads) if (chunks.threads > 1)
    {
        fir::Filter<A, Last> filter(args);
        const bool only_filtered = filtered && !args.scale && !args.noise && !args.bias && act.nothing();
        Buffer<A> row(out.row());
        const Buffer<A> ones(channels, A(1)), zeros(std::max(channels, width), A(0));
#pragma omp for schedule(static)
        for (i64 chunk = 0; chunk < chunks.count; ++chunk) {
            const i64 image = chunk / chunks.per_image, begin = chunk % chunks.per_image * chunks.rows;
            for (i64 plane = 0; plane < out.planes(); ++plane) {
                const A* scale = args.scale ? static_cast<const A*>(args.scale) + image * channels + plane : ones.data();
                const A* bias = args.bias ? static_cast<const A*>(args.bias) + plane : zeros.data();
                for (i64 o = begin; o < std::min(begin + chunks.rows, out.height); ++o) {
                    const A* noise = zeros.data();
                    if (args.noise) noise = static_cast<const A*>(args.noise) + image * args.noise_stride + o * width;
                    S* __restrict to = y + out.at(image, plane, o);
                    const auto finish = [&](const auto* z) {
                        each<S, Last>(width, channels, [&](auto e, auto c, i64 p) {
                            put(to, e, act(get(z, e) * get(scale, c) + (get(bias, c) + noise[p])));
                        });
                    };
                    const auto source = [&](i64 i) { return x + in.at(image, plane, i); };
                    if constexpr (Last && has_lanes<S>) {
                        if (filtered && filter.sweeps()) {
                            filter.sweep(o, source, [&](Lanes e, Lanes c, i64 p, auto z) {
                                if (!only_filtered) z = act(z * get(scale, c) + (get(bias, c) + noise[p]));
                                put(to, e, z);
                            });
                            continue;
                        }
                    }
                    if constexpr (std::is_same_v<S, A>) {
                        if (only_filtered) {
                            filter.make(o, source, to);
                            continue;
                        }
                    }
                    if (only_filtered) {
                        filter.make(o, source, row.data());
                        each<S, Last>(width, channels, [&](auto e, auto, i64) { put(to, e, get(row.data(), e)); });
                    } else if (filtered) {
                        filter.make(o, source, row.data());
                        finish(row.data());
                    } else {
                        finish(x + in.at(image, plane, o));
                    }
                }
            }
        }
    }
}

// dx = FIRᵀ(m · dy) · scale; dscale, dnoise and dbias are sums of m · dy · z, which is FIRᵀ(m · dy) · x summed, and m · dy.
// The axes are those of FIRᵀ: from the pixels of y to those of x.
template <class S, bool Last>
void backward(const FusedArgs& args, i64 threads) {
    using A = typename accumulator<S>::type;
    const bool filtered = args.rows.taps > 0;
    const i64 channels = args.channels;
    const Layout<Last> in{channels, args.rows.in, args.columns.in}, out{channels, args.rows.out, args.columns.out};
    const Chunks chunks(args.batch, out.height, out.width * channels, threads);
    const auto act = fused_activation<S>(args);
    const S *dy = static_cast<const S*>(args.dy), *y = static_cast<const S*>(args.y), *x = static_cast<const S*>(args.x);
    std::vector<double> dscale(args.dscale ? chunks.count * channels : 0), dbias(args.dbias ? chunks.count * channels : 0);

    // The first row of dy that counts into the sums of the chunk starting with row `o` of dx.
    const auto owned_from = [&](i64 o) {
        if (!filtered || o == 0 || o >= out.height) return o == 0 ? 0 : filtered ? in.height : o;
        return std::min<i64>(fir_reach(args.rows, o).source, in.height);
    };

#pragma omp parallel num_threads(chunks.threads) if (chunks.threads > 1)
    {
        fir::Filter<A, Last> filter(args);
        const i64 kept = std::max<i64>(args.rows.taps, 1);
        Buffer<A> recent(kept * in.row()), row(out.row()), partial(2 * channels);
        const Buffer<A> ones(channels, A(1));
#pragma omp for schedule(static)
        for (i64 chunk = 0; chunk < chunks.count; ++chunk) {
            const i64 image = chunk / chunks.per_image, begin = chunk % chunks.per_image * chunks.rows;
            const i64 end = std::min(begin + chunks.rows, out.height);
            const i64 first = owned_from(begin), last = owned_from(end);
            A* dnoise = args.dnoise ? static_cast<A*>(args.dnoise) + image * in.height * in.width : nullptr;
            if (dnoise) std::fill(dnoise + first * in.width, dnoise + last * in.width, A(0));

            for (i64 plane = 0; plane < out.planes(); ++plane) {
                const A* scale = args.scale ? static_cast<const A*>(args.scale) + image * channels + plane : ones.data();
                double* bias_sums = args.dbias ? dbias.data() + chunk * channels + plane : nullptr;
                double* scale_sums = args.dscale ? dscale.data() + chunk * channels + plane : nullptr;
                const auto recent_row = [&](i64 i) -> A* { return recent.data() + i % kept * in.row(); };

                const auto add_row = [&](i64 i) {  // m · dy, and its sums
                    A* __restrict g = recent_row(i);
                    const i64 at = in.at(image, plane, i);
                    const S *from = dy + at, *result = y ? y + at : nullptr;
                    if (y)
                        each<S, Last>(in.width, channels,
                                      [&](auto e, auto, i64) { put(g, e, get(from, e) * act.slope(get(result, e))); });
                    else
                        each<S, Last>(in.width, channels, [&](auto e, auto, i64) { put(g, e, get(from, e) * act.positive); });
                    if (i >= last) return;
                    if (bias_sums) {
                        const S* none = nullptr;
                        sum_over_pixels<Last>(in.width, channels, g, none, partial.data(), bias_sums);
                    }
                    if (dnoise) sum_over_channels<Last>(in.width, channels, g, dnoise + i * in.width);
                };

                if (Last && !filtered && args.dx) {
                    for (i64 o = begin; o < end; ++o) {
                        const i64 at = out.at(image, 0, o);
                        std::fill_n(partial.data(), 2 * channels, A(0));
                        with_or_without(y, scale_sums, dnoise, [&](auto with_y, auto with_x, auto with_noise) {
                            pull_back_row<with_y, with_x, with_noise>(
                                out.width, channels, dy + at, y + (y ? at : 0), x + (x ? at : 0), scale, act,
                                static_cast<S*>(args.dx) + at, partial.data(), partial.data() + channels,
                                dnoise + (dnoise ? o * out.width : 0));
                        });
                        for (i64 c = 0; bias_sums && c < channels; ++c) bias_sums[c] += partial[c];
                        for (i64 c = 0; scale_sums && c < channels; ++c) scale_sums[c] += partial[channels + c];
                    }
                    continue;
                }

                i64 next = first;
                for (i64 o = begin; o < end; ++o) {
                    const A* __restrict g = row.data();
                    if (filtered) {
                        for (; next < filter.reach(o).source + filter.reach(o).count; ++next) add_row(next);
                        filter.make(o, recent_row, row.data());
                    } else {
                        add_row(next++);
                        g = recent_row(o);
                    }
                    const i64 at = out.at(image, plane, o);
                    if (scale_sums) sum_over_pixels<Last>(out.width, channels, g, x + at, partial.data(), scale_sums);
                    if (!args.dx) continue;
                    S* __restrict to = static_cast<S*>(args.dx) + at;
                    each<S, Last>(out.width, channels, [&](auto e, auto c, i64) { put(to, e, get(g, e) * get(scale, c)); });
                }
                for (; next < last; ++next) add_row(next);
            }
        }
    }
    if (args.dbias) add_up(dbias.data(), chunks.count, channels, static_cast<A*>(args.dbias));
    if (args.dscale)
        for (i64 n = 0; n < args.batch; ++n)
            add_up(dscale.data() + n * chunks.per_image * channels, chunks.per_image, channels,
                   static_cast<A*>(args.dscale) + n * channels);
}

// The derivative in the direction of the tangents: ty = m · (FIR(tx · scale + x · tscale) + tnoise + tbias).
template <class S, bool Last>
void tangent(const FusedArgs& args, i64 threads) {
    using A = typename accumulator<S>::type;
    const bool filtered = args.rows.taps > 0;
    const i64 channels = args.channels, width = args.columns.out;
    const Layout<Last> in{channels, args.rows.in, args.columns.in}, out{channels, args.rows.out, width};
    const Chunks chunks(args.batch, out.height, width * channels, threads);
    const auto act = fused_activation<S>(args);

#pragma omp parallel num_threads(chunks.threads) if (chunks.threads > 1)
    {
        fir::Filter<A, Last> filter(args);
        const i64 kept = std::max<i64>(args.rows.taps, 1);
        Buffer<A> recent(kept * in.row()), row(out.row());
        const Buffer<A> ones(channels, A(1)), zeros(std::max(channels, width), A(0));
        const Buffer<S> blank(in.row(), S(0)), positive(out.row(), S(1));
#pragma omp for schedule(static)
        for (i64 chunk = 0; chunk < chunks.count; ++chunk) {
            const i64 image = chunk / chunks.per_image, begin = chunk % chunks.per_image * chunks.rows;
            for (i64 plane = 0; plane < out.planes(); ++plane) {
                const i64 vector = image * channels + plane;
                const A* scale = args.scale ? static_cast<const A*>(args.scale) + vector : ones.data();
                const A* tscale = args.tscale ? static_cast<const A*>(args.tscale) + vector : zeros.data();
                const A* tbias = args.tbias ? static_cast<const A*>(args.tbias) + plane : zeros.data();
                const auto recent_row = [&](i64 i) -> A* { return recent.data() + i % kept * in.row(); };
                const auto add_row = [&](i64 i) {
                    const i64 at = in.at(image, plane, i);
                    const S* tx = args.tx ? static_cast<const S*>(args.tx) + at : blank.data();
                    const S* x = args.x && args.tscale ? static_cast<const S*>(args.x) + at : blank.data();
                    A* __restrict v = recent_row(i);
                    each<S, Last>(in.width, channels, [&](auto e, auto c, i64) {
                        put(v, e, get(tx, e) * get(scale, c) + get(x, e) * get(tscale, c));
                    });
                };

                i64 next = filtered ? filter.reach(begin).source : begin;
                for (i64 o = begin; o < std::min(begin + chunks.rows, out.height); ++o) {
                    const A* __restrict v = row.data();
                    if (filtered) {
                        for (; next < filter.reach(o).source + filter.reach(o).count; ++next) add_row(next);
                        filter.make(o, recent_row, row.data());
                    } else {
                        add_row(o);
                        v = recent_row(o);
                    }
                    const A* tnoise = zeros.data();
                    if (args.tnoise) tnoise = static_cast<const A*>(args.tnoise) + (image * out.height + o) * width;
                    const i64 at = out.at(image, plane, o);
                    const S* y = args.y ? static_cast<const S*>(args.y) + at : positive.data();
                    S* __restrict to = static_cast<S*>(args.ty) + at;
                    each<S, Last>(width, channels, [&](auto e, auto c, i64 p) {
                        put(to, e, act.slope(get(y, e)) * (get(v, e) + (get(tbias, c) + tnoise[p])));
                    });
                }
            }
        }
    }
}

}  // namespace

#define ADAFLOW_FUSED(operation, name, type)                                                             \
    extern "C" int adaflow_fused_##operation##_##name(const adaflow::FusedArgs* args, std::int64_t threads) { \
        if (args->channels_last)                                                                          \
            operation<type, true>(*args, threads);                                                        \
        else                                                                                              \
            operation<type, false>(*args, threads);                                                       \
        return 0;                                                                                         \
    }

#define ADAFLOW_FUSED_TYPES(operation)      \
    ADAFLOW_FUSED(operation, f32, float)    \
    ADAFLOW_FUSED(operation, f64, double)   \
    ADAFLOW_FUSED(operation, bf16, adaflow::bf16)

ADAFLOW_FUSED_TYPES(forward)
ADAFLOW_FUSED_TYPES(backward)
ADAFLOW_FUSED_TYPES(tangent)
