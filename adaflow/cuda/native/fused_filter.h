// Separable FIR filtering on CPUs, one row of the result at a time.

#pragma once

#include <algorithm>
#include <new>
#include <type_traits>
#include <vector>

#include "fused.h"
#include "lanes.h"

namespace adaflow::fir {

// Memory that starts where a cache line does: vectors that straddle two lines are loaded at half the speed.
template <class T>
struct Aligned {
    using value_type = T;
    static constexpr std::align_val_t kLine{64};

    Aligned() = default;
    template <class U>
    Aligned(const Aligned<U>&) {}

    T* allocate(std::size_t n) { return static_cast<T*>(::operator new(n * sizeof(T), kLine)); }
    void deallocate(T* p, std::size_t) { ::operator delete(p, kLine); }
    bool operator==(const Aligned&) const { return true; }
    bool operator!=(const Aligned&) const { return false; }
};
template <class T>
using Buffer = std::vector<T, Aligned<T>>;

// out = Σ_k taps[k] · rows[k], or that added to out, over n elements.
template <int K, class A, class T>
inline void weighted_sum_of(A* __restrict out, const T* const* rows, const A* taps, std::int64_t n, bool add) {
    const T* r[K];
    A t[K];
    for (int k = 0; k < K; ++k) r[k] = rows[k], t[k] = taps[k];
    const auto sum_up = [&](auto i) {
        auto sum = get(r[0], i) * t[0];
        if (add) sum += get(out, i);
        for (int k = 1; k < K; ++k) sum += get(r[k], i) * t[k];
        put(out, i, sum);
    };
    if constexpr (has_lanes<T> && has_lanes<A>) {
        if (n % kLanes == 0) {
            for (std::int64_t i = 0; i < n; i += kLanes) sum_up(Lanes{i});
            return;
        }
    }
#pragma omp simd
    for (std::int64_t i = 0; i < n; ++i) sum_up(i);
}

template <class A, class T>
__attribute__((noinline)) void weighted_sum(A* out, const T* const* rows, const A* taps, std::int64_t count, std::int64_t n) {
    if (count == 0) std::fill_n(out, n, A(0));
    for (std::int64_t k = 0; k < count; k += 4) {
        switch (std::min<std::int64_t>(count - k, 4)) {
            case 1: weighted_sum_of<1>(out, rows + k, taps + k, n, k > 0); break;
            case 2: weighted_sum_of<2>(out, rows + k, taps + k, n, k > 0); break;
            case 3: weighted_sum_of<3>(out, rows + k, taps + k, n, k > 0); break;
            default: weighted_sum_of<4>(out, rows + k, taps + k, n, k > 0);
        }
    }
}

// `Last`: channels are innermost in memory, and a pixel is a vector of them. Otherwise rows belong to one channel.
template <class A, bool Last>
class Filter {
   public:
    explicit Filter(const FusedArgs& args)
        : rows_(args.rows), columns_(args.columns), pixel_(Last ? args.channels : 1), phases_(args.columns.up) {
        margin_ = std::max<std::int64_t>(0, -floor_div(-columns_.before, columns_.up));
        const std::int64_t last = (columns_.out - 1) * columns_.down - columns_.before + columns_.taps - 1;
        length_ = margin_ + std::max(columns_.in, floor_div(last, columns_.up) + 1);
        line_.assign(length_ * pixel_, A(0));
        if (sweeps()) zeros_.assign(columns_.in * pixel_, A(0));
        part_ = length_ / columns_.down + 1;
        if (!Last && columns_.down > 1) parts_.assign(part_ * columns_.down, A(0));
        phase_ = (columns_.out + columns_.up - 1) / columns_.up;
        if (!Last && columns_.up > 1) apart_.resize(phase_ * columns_.up);
        for (std::int64_t p = 0; p < columns_.up; ++p) {
            const std::int64_t start = p * columns_.down - columns_.before;
            const std::int64_t source = -floor_div(-start, columns_.up);
            phases_[p].source = source + margin_;
            for (std::int64_t k = source * columns_.up - start; k < columns_.taps; k += columns_.up)
                phases_[p].taps.push_back(A(columns_.tap[k]));
        }
        for (std::int64_t k = 0; k < rows_.taps; ++k) row_taps_[k] = A(rows_.tap[k]);
        for (std::int64_t o = 0; rows_.taps > 0 && o < rows_.out; ++o) reaches_.push_back(fir_reach(rows_, o));
    }

    // What row `o` of the result is made of.
    const FirReach& reach(std::int64_t o) const { return reaches_[o]; }

    // Whether `sweep` can do it: with fewer taps it would multiply by 0 what may not be finite.
    bool sweeps() const {
        return pixel_ % kLanes == 0 && rows_.taps <= kSweep && columns_.taps == kSweep && columns_.up == 1 && columns_.down <= 2;
    }

    // Row `o` of the result, in registers: `emit(element, channel, pixel, value)` for Lanes of it.
    template <class Source, class Emit>
    void sweep(std::int64_t o, Source&& row, Emit&& emit) const {
        columns_.down == 1 ? sweep_in_steps<1>(o, row, emit) : sweep_in_steps<2>(o, row, emit);
    }

    // Row `o` of the result; `row(i)` points at row i of the image.
    template <class Source>
    void make(std::int64_t o, Source&& row, A* out) {
        using T = std::remove_cv_t<std::remove_pointer_t<decltype(row(0))>>;
        if constexpr (Last && has_lanes<T> && has_lanes<A>) {
            if (sweeps()) return sweep(o, row, [&](Lanes e, Lanes, std::int64_t, auto value) { put(out, e, value); });
        }
        const FirReach reach = reaches_[o];
        const T* sources[kMaxTaps];
        A taps[kMaxTaps];
        for (std::int64_t m = 0; m < reach.count; ++m) {
            sources[m] = row(reach.source + m);
            taps[m] = row_taps_[reach.first + m * rows_.up];
        }
        weighted_sum(line_.data() + margin_ * pixel_, sources, taps, reach.count, columns_.in * pixel_);

        if (columns_.up == 1 && columns_.down == 1) {
            sum(phases_[0], [&](std::int64_t at) { return line_.data() + at * pixel_; }, columns_.out * pixel_, out);
        } else if (Last) {
            for (std::int64_t x = 0; x < columns_.out; ++x) {
                const A* from = line_.data() + x / columns_.up * columns_.down * pixel_;
                sum(phases_[x % columns_.up], [&](std::int64_t at) { return from + at * pixel_; }, pixel_, out + x * pixel_);
            }
        } else {
            resample(out);
        }
    }

   private:
    static constexpr int kSweep = 4;  // taps

    // Along the row, for 16 channels after the other: the last four pixels, filtered along y, stay in registers.
    template <int Step, class Source, class Emit>
    void sweep_in_steps(std::int64_t o, Source&& row, Emit&& emit) const {
        using T = std::remove_cv_t<std::remove_pointer_t<decltype(row(0))>>;
        const FirReach reach = reaches_[o];
        const T* sources[kSweep];
        A along_y[kSweep], along_x[kSweep];
        for (std::int64_t m = 0; m < kSweep; ++m) {
            const bool there = m < reach.count;
            sources[m] = there ? row(reach.source + m) : reinterpret_cast<const T*>(zeros_.data());
            along_y[m] = there ? row_taps_[reach.first + m * rows_.up] : A(0);
            along_x[m] = A(columns_.tap[m]);
        }
        for (std::int64_t c = 0; c < pixel_; c += kLanes) {
            using V = decltype(get(sources[0], Lanes{c}));
            const auto pixel = [&](std::int64_t x) {
                if (x < 0 || x >= columns_.in) return V{};
                const Lanes at{x * pixel_ + c};
                V sum = get(sources[0], at) * along_y[0];
                for (int m = 1; m < kSweep; ++m) sum += get(sources[m], at) * along_y[m];
                return sum;
            };
            V last[kSweep];
            std::int64_t next = -columns_.before;
            for (int k = Step; k < kSweep; ++k) last[k] = pixel(next++);
            for (std::int64_t x = 0; x < columns_.out; ++x) {
                for (int k = 0; k < kSweep - Step; ++k) last[k] = last[k + Step];
                for (int k = kSweep - Step; k < kSweep; ++k) last[k] = pixel(next++);
                V sum = last[0] * along_x[0];
                for (int k = 1; k < kSweep; ++k) sum += last[k] * along_x[k];
                emit(Lanes{x * pixel_ + c}, Lanes{c}, x, sum);
            }
        }
    }

    // The columns p, p + up, p + 2 · up, … of the result have the same taps; their first source moves on by `down`.
    struct Phase {
        std::int64_t source;
        std::vector<A> taps;
    };

    template <class At>
    void sum(const Phase& phase, At&& at, std::int64_t n, A* out) {
        const A* sources[kMaxTaps];
        const std::int64_t count = phase.taps.size();
        for (std::int64_t m = 0; m < count; ++m) sources[m] = at(phase.source + m);
        weighted_sum(out, sources, phase.taps.data(), count, n);
    }

    // Along a row of one channel. What is `down` apart is brought together first and the phases are interleaved last, so
    // that the sums run over neighbours.
    void resample(A* out) {
        const std::int64_t up = columns_.up, down = columns_.down;
        if (down > 1) every(line_.data(), length_, down, parts_.data(), part_);
        for (std::int64_t p = 0; p < up; ++p) {
            const auto at = [&](std::int64_t i) {
                return down > 1 ? parts_.data() + i % down * part_ + i / down : line_.data() + i;
            };
            const std::int64_t n = (columns_.out - p + up - 1) / up;
            if (n > 0) sum(phases_[p], at, n, up > 1 ? apart_.data() + p * phase_ : out);
        }
        if (up > 1) interleave(apart_.data(), phase_, up, out, columns_.out);
    }

    // Element i of `from` goes to place i / step of part i % step.
    static void every(const A* __restrict from, std::int64_t n, std::int64_t step, A* __restrict to, std::int64_t part) {
        std::int64_t done = 0;
        if (step == 2) {
            A* __restrict odd = to + part;
#pragma omp simd
            for (std::int64_t i = 0; i < n / 2; ++i) to[i] = from[2 * i], odd[i] = from[2 * i + 1];
            done = n / 2 * 2;
        }
        for (; done < n; ++done) to[done % step * part + done / step] = from[done];
    }

    // The reverse.
    static void interleave(const A* __restrict from, std::int64_t part, std::int64_t step, A* __restrict to, std::int64_t n) {
        std::int64_t done = 0;
        if (step == 2) {
            const A* odd = from + part;
#pragma omp simd
            for (std::int64_t i = 0; i < n / 2; ++i) to[2 * i] = from[i], to[2 * i + 1] = odd[i];
            done = n / 2 * 2;
        }
        for (; done < n; ++done) to[done] = from[done % step * part + done / step];
    }

    const FirAxis &rows_, &columns_;
    std::int64_t pixel_;         // numbers in a pixel
    std::int64_t margin_;        // pixels of zeros before the first of `line_`
    std::int64_t length_;        // pixels of `line_`, zeros before and after included
    std::int64_t part_, phase_;  // longest part, longest phase
    Buffer<A> line_;        // a row filtered along y
    Buffer<A> zeros_;       // a row beyond the image
    Buffer<A> parts_;       // the same, every down-th pixel together
    Buffer<A> apart_;       // a row of the result, every up-th pixel together
    std::vector<Phase> phases_;
    std::vector<FirReach> reaches_;
    A row_taps_[kMaxTaps];
};

}  // namespace adaflow::fir
