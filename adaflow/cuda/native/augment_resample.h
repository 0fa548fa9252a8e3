// Resampling of one image on a CPU, and its adjoint, tile by tile, so that all of a tile stays in the cache.
//
// Up to four channels are worked on at once, as pixels of L = 1 or 4 numbers. Both ways go through the same steps: a
// window of pixels is doubled in resolution; its points are looked up in (or, for the adjoint, spread over) a lattice;
// what comes of it is halved. The order of all sums is fixed by the image's size and map alone.

#pragma once

#include <algorithm>

#include "augment_points.h"
#include "resolution.h"

namespace adaflow {
namespace augment {

/// Output pixels along the side of a tile, at most and at least.
constexpr std::int64_t MOST_TILE = 72, LEAST_TILE = 6;
/// A tile becomes smaller where it would see a box of the lattice with more points than the first; with more than the
/// second even for the smallest tile, each point is looked up by itself.
constexpr double SMALL_BOX = 40e3, GREATEST_BOX = 1e6;

template <typename T, int L>
class Resampling {
    using One = typename rows::Pixels<T, L>::One;
    using Two = typename rows::Pixels<T, L>::Two;

    /// Points of the lattice that make whole vectors.
    static constexpr std::int32_t UNIT = rows::LANES<T> / L;

   public:
    /// `from` and `to` are the first of `channels` <= L planes.
    Resampling(
        const T* from, T* to, std::int64_t channels, std::int64_t height, std::int64_t width, const Map& map,
        const Colors<T>& colors, std::int64_t first_channel, Buffers<T>& buffers)
        : from_(from), to_(to), channels_(channels), height_(height), width_(width), map_(map), b_(buffers) {
        colored_ = colors.changes(first_channel);
        for (int l = 0; l < L; ++l) {
            set(offset_, l, colored_ && l < channels && !(colors.rgb && l == 3) ? colors.offset[l < 3 ? l : 0] : T(0));
            for (int k = 0; k < L; ++k) {
                const bool mixed = colors.rgb && l < 3 && k < 3;
                set(mix_[k], l, mixed ? colors.m[l][k] : l != k ? T(0) : colors.rgb ? T(1) : colors.gain());
            }
        }
        taps_.fill();
        for (int k = 0; k < TAPS; ++k) {
            halving_[k] = static_cast<T>(lowpass(k));
            twice_[k] = 2 * halving_[k];
        }
    }

    void forward() {
        const std::int64_t wide = tile_size(width_), high = tile_size(height_);
        for (std::int64_t y = 0; y < height_; y += high)
            for (std::int64_t x = 0; x < width_; x += wide)
                forward_tile(x, y, std::min(wide, width_ - x), std::min(high, height_ - y));
    }

    /// `to` must be zero before.
    void adjoint() {
        const std::int64_t grid_width = 2 * width_ + GRID_MARGIN, grid_height = 2 * height_ + GRID_MARGIN;
        const std::int64_t wide = 2 * tile_size(grid_width / 2), high = 2 * tile_size(grid_height / 2);
        for (std::int64_t j = 0; j < grid_height; j += high)
            for (std::int64_t i = 0; i < grid_width; i += wide)
                adjoint_tile(i, j, std::min(wide, grid_width - i), std::min(high, grid_height - j));
    }

   private:
    static void set(One& pixel, int lane, T value) { reinterpret_cast<T*>(&pixel)[lane] = value; }
    static T get(const One& pixel, int lane) { return reinterpret_cast<const T*>(&pixel)[lane]; }

    One colored(const One& pixel) const {
        One sum = offset_;
        for (int k = 0; k < L; ++k) sum += mix_[k] * get(pixel, k);
        return sum;
    }

    /// Sides of tiles of much the same size that cover `size`.
    std::int64_t tile_size(std::int64_t size) const {
        std::int64_t tile = MOST_TILE;
        while (tile > LEAST_TILE && area(2 * tile + GRID_MARGIN) > SMALL_BOX) tile /= 2;
        const std::int64_t count = (size + tile - 1) / tile;
        return (size + count - 1) / count;
    }

    double area(std::int64_t grid) const {
        const double side = static_cast<double>(grid);
        return (fabs(map_.a) + fabs(map_.b)) * side * (fabs(map_.d) + fabs(map_.e)) * side;
    }

    /// Pixels `first` ... `first` + `count` - 1 of a row that is reflected at its ends: where they come from.
    struct Reflected {
        const std::int64_t* columns;
        std::int64_t least, most;
        bool inside;  // as they are
    };

    Reflected reflected(std::int64_t first, std::int64_t count) {
        if (b_.columns.size() < static_cast<std::size_t>(count)) b_.columns.resize(static_cast<std::size_t>(count));
        std::int64_t* columns = b_.columns.data();
        for (std::int64_t k = 0; k < count; ++k) columns[k] = reflect(first + k, width_);
        const auto [least, most] = std::minmax_element(columns, columns + count);
        return {columns, *least, *most, first >= 0 && first + count <= width_};
    }

    /// Where the points of a row of the grid lie: offsets into the lattice, and fractions.
    void find_points(std::int64_t i, std::int64_t j, std::int64_t n, const View& view, std::int32_t stride) {
        const T u = static_cast<T>(map_.u(i, j) - static_cast<double>(view.u));
        const T v = static_cast<T>(map_.v(i, j) - static_cast<double>(view.v));
        const T du = static_cast<T>(map_.a), dv = static_cast<T>(map_.d);
        std::int32_t* offset = b_.offset.data();
        T *x = b_.x.data(), *y = b_.y.data();
#pragma omp simd
        for (std::int32_t k = 0; k < static_cast<std::int32_t>(n); ++k) {
            const T across = u + static_cast<T>(k) * du, down = v + static_cast<T>(k) * dv;
            const std::int32_t column = static_cast<std::int32_t>(across), row = static_cast<std::int32_t>(down);
            offset[k] = (row * stride + column) * L;
            x[k] = across - static_cast<T>(column);
            y[k] = down - static_cast<T>(row);
        }
    }

    void room_for_points(std::int64_t n) {
        b_.room(b_.x, n);
        b_.room(b_.y, n);
        if (b_.offset.size() < b_.x.size()) b_.offset.resize(b_.x.size());
    }

    void look_up(const T* lattice, std::int64_t stride, std::int64_t n, T* out) const {
        const std::int32_t* offset = b_.offset.data();
        const T *x = b_.x.data(), *y = b_.y.data();
        for (std::int64_t k = 0; k < n; ++k) {
            const T* corner = lattice + offset[k];
            const Two top = *reinterpret_cast<const Two*>(corner);
            const Two bottom = *reinterpret_cast<const Two*>(corner + stride * L);
            const Two middle = top + y[k] * (bottom - top);
            One halves[2];
            std::memcpy(halves, &middle, sizeof halves);
            reinterpret_cast<One*>(out)[k] = halves[0] + x[k] * (halves[1] - halves[0]);
        }
    }

    /// Every third point at a time: neighbours write to the same place, and would wait for each other.
    void spread(T* lattice, std::int64_t stride, std::int64_t n, const T* values) const {
        const std::int32_t* offset = b_.offset.data();
        const T *x = b_.x.data(), *y = b_.y.data();
        for (std::int64_t phase = 0; phase < 3; ++phase) {
            for (std::int64_t k = phase; k < n; k += 3) {
                const One value = reinterpret_cast<const One*>(values)[k];
                const One right = x[k] * value;
                const Two both = rows::join<T, L>(value - right, right);
                const Two below = y[k] * both;
                Two* top = reinterpret_cast<Two*>(lattice + offset[k]);
                Two* bottom = reinterpret_cast<Two*>(lattice + offset[k] + stride * L);
                *top += both - below;
                *bottom += below;
            }
        }
    }

    /// Planes to pixels: `count` of them from column `first` of row `row` on; a plane that is not there is zero.
    void gather(std::int64_t row, std::int64_t first, std::int64_t count, T* out) {
        const T* planes[L];
        for (int l = 0; l < L; ++l)
            planes[l] = l < channels_ ? from_ + (l * height_ + row) * width_ + first : b_.zeros.data();
        rows::gather_planes<L>(planes, out, count);
    }

    /// `count` pixels of row `row` from number `begin` of the reflected ones on.
    void load(std::int64_t row, const Reflected& seen, std::int64_t begin, std::int64_t count, T* out) {
        if (seen.inside) {
            gather(row, seen.columns[begin], count, out);
            return;
        }
        T* pixels = b_.room(b_.pixels, width_ * L);
        gather(row, seen.least, seen.most - seen.least + 1, pixels);
        const One* in = reinterpret_cast<const One*>(pixels) - seen.least;
        for (std::int64_t k = 0; k < count; ++k) reinterpret_cast<One*>(out)[k] = in[seen.columns[begin + k]];
    }

    void forward_tile(std::int64_t x, std::int64_t y, std::int64_t width, std::int64_t height) {
        const std::int64_t i = 2 * x, j = 2 * y, points = 2 * width + GRID_MARGIN, lines = 2 * height + GRID_MARGIN;
        const View view(map_, i, j, points, lines);
        const bool huge = view.area > GREATEST_BOX;
        const std::int64_t stride = rows::padded<T>((view.width + 1) * L) / L;
        T* lattice = nullptr;
        if (!huge) {
            lattice = b_.room(b_.box, view.height * stride * L);
            fill_lattice(view, stride, lattice);
            room_for_points(points);
        }

        // The last 12 lines of the grid, each in its place modulo 12.
        const std::int64_t line_size = rows::padded<T>(points * L);
        T* ring = b_.room(b_.line, (TAPS + 2) * line_size);
        T *sums = ring + TAPS * line_size, *pixels = sums + line_size;
        for (std::int64_t line = 0; line < lines; ++line) {
            T* values = ring + line % TAPS * line_size;
            if (huge) {
                look_up_singly(i, j + line, points, values);
            } else {
                find_points(i, j + line, points, view, static_cast<std::int32_t>(stride));
                look_up(lattice, stride, points, values);
            }
            if (line < TAPS - 1 || line % 2 == 0) continue;
            const T* in[TAPS];
            for (int k = 0; k < TAPS; ++k) in[k] = ring + (line + 1 + k) % TAPS * line_size;
            rows::weighted_sum<TAPS>(in, halving_, sums, points * L);
            halve_row<L>(sums, halving_, pixels, width, b_);
            store(pixels, x, y + (line - TAPS + 1) / 2, width);
        }
    }

    /// The lattice where the tile sees it.
    void fill_lattice(const View& view, std::int64_t stride, T* lattice) {
        const Doubling<T> weights = Doubling<T>::up();
        const std::int64_t count = view.width / 2 + 6, high = view.height / 2 + 6;
        const Reflected seen = reflected(view.u / 2 - 3, count);
        T* row = b_.room(b_.row, count * L);
        T* window = b_.room(b_.window, high * stride * L);
        b_.room(b_.zeros, std::max(width_, count));
        // Row k of pixels is needed for rows 2k - 11 ... 2k of the lattice.
        const Span* spans = view.spans(b_.spans, high, 2, 1 - TAPS, 0, UNIT);
        for (std::int64_t k = 0; k < high; ++k) {
            const std::int64_t begin = spans[k].first, pairs = (spans[k].end - begin) / 2;
            if (pairs == 0) continue;
            load(reflect(view.v / 2 - 3 + k, height_), seen, begin / 2, pairs + 6, row);
            double_row<L>(row, weights, window + (k * stride + begin) * L, pairs, b_);
        }
        spans = view.spans(b_.spans, view.height, 1, 0, 0, UNIT);
        for (std::int64_t k = 0; k < view.height; ++k) {
            const std::int64_t begin = spans[k].first * L, n = spans[k].end * L - begin;
            between_rows(window + begin, stride * L, weights, k, lattice + k * stride * L + begin, n);
        }
    }

    /// Pixels to planes, with their colours.
    void store(const T* pixels, std::int64_t x, std::int64_t y, std::int64_t count) {
        for (int l = 0; l < channels_; ++l) {
            T* out = to_ + (l * height_ + y) * width_ + x;
            T mix[L], offset = get(offset_, l);
            for (int k = 0; k < L; ++k) mix[k] = get(mix_[k], l);
#pragma omp simd
            for (std::int64_t i = 0; i < count; ++i) {
                T sum = offset;
                for (int k = 0; k < L; ++k) sum += mix[k] * pixels[i * L + k];
                out[i] = colored_ ? sum : pixels[i * L + l];
            }
        }
    }

    void adjoint_tile(std::int64_t i, std::int64_t j, std::int64_t points, std::int64_t lines) {
        const View view(map_, i, j, points, lines);
        const bool huge = view.area > GREATEST_BOX;
        const std::int64_t stride = rows::padded<T>((view.width + 1) * L) / L;
        T* lattice = nullptr;
        if (!huge) {
            lattice = b_.room(b_.box, view.height * stride * L);
            clear_lattice(view, stride, lattice);
            room_for_points(points);
        }
        const Doubling<T> weights = Doubling<T>::of_gradients();
        const std::int64_t line_size = rows::padded<T>(points * L), high = lines / 2 + 5;
        T* row = b_.room(b_.row, (points / 2 + 5) * L);
        T* window = b_.room(b_.window, high * line_size);
        T* values = b_.room(b_.line, line_size);
        b_.room(b_.zeros, width_);
        for (std::int64_t k = 0; k < high; ++k) {
            load_gradient(j / 2 - 5 + k, i / 2 - 5, points / 2 + 5, row);
            double_row<L>(row, weights, window + k * line_size, points / 2, b_);
        }
        for (std::int64_t line = 0; line < lines; ++line) {
            between_rows(window, line_size, weights, line, values, points * L);
            if (huge) {
                spread_singly(i, j + line, points, values);
            } else {
                find_points(i, j + line, points, view, static_cast<std::int32_t>(stride));
                spread(lattice, stride, points, values);
            }
        }
        if (!huge) gather_lattice(view, stride, lattice);
    }

    /// The gradient of the output's pixels, zero beyond them, taken back through the colours.
    void load_gradient(std::int64_t row, std::int64_t first, std::int64_t count, T* out) {
        std::fill(out, out + count * L, T(0));
        if (row < 0 || row >= height_) return;
        const std::int64_t begin = std::max(std::int64_t{0}, -first), end = std::min(count, width_ - first);
        if (begin >= end) return;
        gather(row, first + begin, end - begin, out + begin * L);
        if (!colored_) return;
        One* pixels = reinterpret_cast<One*>(out);
        for (std::int64_t k = begin; k < end; ++k) pixels[k] = colored(pixels[k]);
    }

    /// Zeros wherever `gather_lattice` reads.
    void clear_lattice(const View& view, std::int64_t stride, T* lattice) {
        const Span* spans = view.spans(b_.spans, view.height, 1, 1 - TAPS, TAPS - 1, UNIT);
        for (std::int64_t k = 0; k < view.height; ++k) {
            T* row = lattice + k * stride * L;
            std::fill(row + spans[k].first * L, row + rows::padded<T>(spans[k].end * L), T(0));
        }
    }

    /// Add up what the pixels of the image gave to the lattice.
    void gather_lattice(const View& view, std::int64_t stride, const T* lattice) {
        const std::int64_t count = view.width / 2 + 6, high = view.height / 2 + 6;
        const Reflected seen = reflected(view.u / 2 - 3, count);
        // The row begins with a vector, and 11 zeros are before and after it.
        const std::int64_t margin = (TAPS - 1) * L, begin = rows::padded<T>(margin);
        T* line = b_.room(b_.line, begin + view.width * L + margin);
        T* pixels = b_.room(b_.row, count * L);
        std::fill(line, line + begin, T(0));
        const Span* spans = view.spans(b_.spans, high, 2, 1 - TAPS, 0, UNIT);
        for (std::int64_t k = 0; k < high; ++k) {
            const std::int64_t first = spans[k].first, n = (spans[k].end - first) * L;
            if (n == 0) continue;
            column_sums(lattice + first * L, stride * L, 2 * k - (TAPS - 1), view.height, n, line + begin);
            std::fill(line + begin + n, line + begin + rows::padded<T>(n) + margin, T(0));
            halve_row<L>(line + begin - margin, twice_, pixels, n / L / 2 + 6, b_);
            add(pixels, reflect(view.v / 2 - 3 + k, height_), seen, first / 2, n / L / 2 + 6);
        }
    }

    /// Sums over the lines `first` ... `first` + 11 of the lattice, of those that there are.
    void column_sums(
        const T* lattice, std::int64_t stride, std::int64_t first, std::int64_t lines, std::int64_t n, T* out) {
        const T* in[TAPS];
        T weights[TAPS];
        for (int k = 0; k < TAPS; ++k) {
            const bool there = first + k >= 0 && first + k < lines;
            in[k] = lattice + (there ? first + k : 0) * stride;
            weights[k] = there ? twice_[k] : T(0);
        }
        rows::weighted_sum<TAPS>(in, weights, out, n);
    }

    /// Pixels added to those of row `row` that they are reflections of.
    void add(const T* pixels, std::int64_t row, const Reflected& seen, std::int64_t begin, std::int64_t count) {
        const std::int64_t* columns = seen.columns + begin;
        std::int64_t first = columns[0];
        if (!seen.inside) {
            // Onto each other first.
            first = seen.least;
            T* sums = b_.room(b_.pixels, width_ * L);
            std::fill(sums, sums + (seen.most - first + 1) * L, T(0));
            One* to = reinterpret_cast<One*>(sums) - first;
            for (std::int64_t k = 0; k < count; ++k) to[columns[k]] += reinterpret_cast<const One*>(pixels)[k];
            pixels = sums;
            count = seen.most - first + 1;
        }
        for (int l = 0; l < channels_; ++l) {
            T* out = to_ + (l * height_ + row) * width_ + first;
            for (std::int64_t k = 0; k < count; ++k) out[k] += pixels[k * L + l];
        }
    }

    void look_up_singly(std::int64_t i, std::int64_t j, std::int64_t n, T* out) const {
        for (std::int64_t k = 0; k < n; ++k) {
            const Seen<T> across(map_.u(i + k, j), width_, taps_), down(map_.v(i + k, j), height_, taps_);
            for (int l = 0; l < L; ++l)
                out[k * L + l] =
                    l < channels_ ? look_up_point(from_ + l * height_ * width_, width_, across, down) : T(0);
        }
    }

    void spread_singly(std::int64_t i, std::int64_t j, std::int64_t n, const T* values) {
        for (std::int64_t k = 0; k < n; ++k) {
            const Seen<T> across(map_.u(i + k, j), width_, taps_), down(map_.v(i + k, j), height_, taps_);
            for (int l = 0; l < channels_; ++l)
                for (int y = 0; y < SEEN; ++y)
                    for (int x = 0; x < SEEN; ++x)
                        to_[(l * height_ + down.index[y]) * width_ + across.index[x]] +=
                            down.weight[y] * across.weight[x] * values[k * L + l];
        }
    }

    const T* from_;
    T* to_;
    std::int64_t channels_, height_, width_;
    Map map_;
    Buffers<T>& b_;
    bool colored_;
    One mix_[L], offset_;
    T halving_[TAPS], twice_[TAPS];
    Taps<T> taps_;
};

}  // namespace augment
}  // namespace adaflow
