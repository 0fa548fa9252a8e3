// What a tile of the grid sees of the lattice: a parallelogram, whose rows are found here. On a CPU.

#pragma once

#include <algorithm>
#include <vector>

#include "augment.h"

namespace adaflow {
namespace augment {

/// Columns `first` ... `end` - 1.
struct Span {
    std::int32_t first, end;
};

/// What lookups at points i ... i + points - 1 by j ... j + lines - 1 of the grid touch, in a box of the lattice that
/// begins at (u, v); these and its width and height are even. Rows and columns are counted from there.
struct View {
    /// Lookups are where they are said to be but for this much: far more than rounding does.
    static constexpr float ROUNDING = 0.5f;

    std::int64_t u, v, width, height;
    /// Points of the box.
    double area;

    View(const Map& map, std::int64_t i, std::int64_t j, std::int64_t points, std::int64_t lines) {
        const std::int64_t right = i + points - 1, bottom = j + lines - 1;
        // In turn around the parallelogram.
        const double us[4] = {map.u(i, j), map.u(right, j), map.u(right, bottom), map.u(i, bottom)};
        const double vs[4] = {map.v(i, j), map.v(right, j), map.v(right, bottom), map.v(i, bottom)};
        const auto [u_low, u_high] = std::minmax_element(us, us + 4);
        const auto [v_low, v_high] = std::minmax_element(vs, vs + 4);
        area = (*u_high - *u_low + 6) * (*v_high - *v_low + 6);
        u = 2 * static_cast<std::int64_t>(floor(0.5 * (*u_low - ROUNDING)));
        v = 2 * static_cast<std::int64_t>(floor(0.5 * (*v_low - ROUNDING)));
        width = (static_cast<std::int64_t>(floor(*u_high + ROUNDING)) - u + 3) & ~std::int64_t{1};
        height = (static_cast<std::int64_t>(floor(*v_high + ROUNDING)) - v + 3) & ~std::int64_t{1};
        for (int k = 0; k < 4; ++k) {
            const int next = (k + 1) % 4, low = vs[k] < vs[next] ? k : next, high = low == k ? next : k;
            // A level side is tilted a little.
            const double tilt = vs[high] - vs[low] < 0.1 ? 0.1 : 0.0, rise = vs[high] - vs[low] + 2 * tilt;
            side_[k] = {
                static_cast<float>(us[low] - static_cast<double>(u)), static_cast<float>((us[high] - us[low]) / rise),
                static_cast<float>(vs[low] - tilt - static_cast<double>(v)),
                static_cast<float>(vs[high] + tilt - static_cast<double>(v)),
            };
        }
    }

    /// For k = 0 ... count - 1, which columns lookups touch in rows k * step + first ... k * step + last together, begun
    /// at a multiple of `unit` and ended at an even number.
    const Span* spans(
        std::vector<Span>& spans, std::int64_t count, int step, int first, int last, std::int32_t unit) const {
        if (spans.size() < static_cast<std::size_t>(count)) spans.resize(static_cast<std::size_t>(count));
        Span* out = spans.data();
        // A lookup touches the row that it is in and the next.
        const float above = static_cast<float>(first - 1) - ROUNDING, below = static_cast<float>(last + 1) + ROUNDING;
        const auto widest = static_cast<std::int32_t>(width);
#pragma omp simd
        for (std::int32_t k = 0; k < static_cast<std::int32_t>(count); ++k) {
            const float top = static_cast<float>(k * step) + above, bottom = static_cast<float>(k * step) + below;
            float low = static_cast<float>(width), high = 0;
            for (const Side& side : side_) side.extend(top, bottom, low, high);
            const auto least = static_cast<std::int32_t>(std::max(low - ROUNDING, 0.0f)) / unit * unit;
            const auto most = (static_cast<std::int32_t>(high + ROUNDING) + 3) & ~1;
            out[k] = low <= high ? Span{least, std::min(most, widest)} : Span{0, 0};
        }
        return out;
    }

   private:
    /// A side of the parallelogram: on lines v_low ... v_high, where it is at u + slope * (v - v_low).
    struct Side {
        float u, slope, v_low, v_high;

        /// Take what lies between two lines into the interval low ... high.
        void extend(float top, float bottom, float& low, float& high) const {
            const bool meets = v_low <= bottom && v_high >= top;
            const float one = u + slope * (std::max(top, v_low) - v_low);
            const float other = u + slope * (std::min(bottom, v_high) - v_low);
            low = meets ? std::min(low, std::min(one, other)) : low;
            high = meets ? std::max(high, std::max(one, other)) : high;
        }
    };
    Side side_[4];
};

}  // namespace augment
}  // namespace adaflow
