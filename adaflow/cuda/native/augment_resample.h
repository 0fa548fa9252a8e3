// Resampling of one image on a CPU, and its adjoint, tile by tile, so that all of a tile stays in the cache.
//
// Up to four channels are worked on at once, as pixels of L = 1 or 4 numbers. Both ways go through the same steps: a
// window of pixels is doubled in resolution; its points are looked up in (or, for the adjoint, spread over) a lattice;
// what comes of it is halved. The order of all sums is fixed by the image's size and map alone.

#pragma once

#include <algorithm>
#include <utility>

#include "augment_points.h"
#include "resolution.h"

namespace adaflow {
namespace augment {

/// Output pixels along the side of a tile.
constexpr std::int64_t TILE = 48, LEAST_TILE = 6;
/// A tile becomes smaller where its box of the lattice had more points than the first; with more than the second even
/// for the smallest tile, each point is looked up by itself.
constexpr double SMALL_BOX = 40e3, GREATEST_BOX = 1e6;

template <typename T, int L>
class Resampling {
    using One = typename rows::Pixels<T, L>::One;
    using Two = typename rows::Pixels<T, L>::Two;

    /// Part of the lattice; all four are even.
    struct Box {
        std::int64_t u, v, width, height;
        bool huge;
    };

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
        const std::int64_t tile = tile_size();
        for (std::int64_t y = 0; y < height_; y += tile)
            for (std::int64_t x = 0; x < width_; x += tile)
                forward_tile(x, y, std::min(tile, width_ - x), std::min(tile, height_ - y));
    }

    /// `to` must be zero before.
    void adjoint() {
        const std::int64_t tile = 2 * tile_size();
        const std::int64_t grid_width = 2 * width_ + GRID_MARGIN, grid_height = 2 * height_ + GRID_MARGIN;
        for (std::int64_t j = 0; j < grid_height; j += tile)
            for (std::int64_t i = 0; i < grid_width; i += tile)
                adjoint_tile(i, j, std::min(tile, grid_width - i), std::min(tile, grid_height - j));
    }

   private:
    static void set(One& pixel, int lane, T value) { reinterpret_cast<T*>(&pixel)[lane] = value; }
    static T get(const One& pixel, int lane) { return reinterpret_cast<const T*>(&pixel)[lane]; }

    One colored(const One& pixel) const {
        One sum = offset_;
        for (int k = 0; k < L; ++k) sum += mix_[k] * get(pixel, k);
        return sum;
    }

    std::int64_t tile_size() const {
        std::int64_t tile = TILE;
        while (tile > LEAST_TILE && area(2 * tile + GRID_MARGIN) > SMALL_BOX) tile /= 2;
        return tile;
    }

    double area(std::int64_t grid) const {
        const double side = static_cast<double>(grid);
        return (fabs(map_.a) + fabs(map_.b)) * side * (fabs(map_.d) + fabs(map_.e)) * side;
    }

    /// What lookups at points i ... i + width - 1 by j ... j + height - 1 of the grid touch, and a margin for rounding.
    Box box_of(std::int64_t i, std::int64_t j, std::int64_t width, std::int64_t height) const {
        const std::int64_t right = i + width - 1, bottom = j + height - 1;
        const double us[4] = {map_.u(i, j), map_.u(right, j), map_.u(i, bottom), map_.u(right, bottom)};
        const double vs[4] = {map_.v(i, j), map_.v(right, j), map_.v(i, bottom), map_.v(right, bottom)};
        const auto [u, u_end] = std::minmax_element(us, us + 4);
        const auto [v, v_end] = std::minmax_element(vs, vs + 4);
        Box box;
        box.huge = (*u_end - *u + 6) * (*v_end - *v + 6) > GREATEST_BOX;
        box.u = 2 * static_cast<std::int64_t>(floor(0.5 * (*u - 0.5)));
        box.v = 2 * static_cast<std::int64_t>(floor(0.5 * (*v - 0.5)));
        box.width = (static_cast<std::int64_t>(floor(*u_end + 0.5)) - box.u + 3) & ~std::int64_t{1};
        box.height = (static_cast<std::int64_t>(floor(*v_end + 0.5)) - box.v + 3) & ~std::int64_t{1};
        return box;
    }

    /// Indices `first` ... `first` + `count` - 1 of a reflected row.
    const std::int64_t* reflected(std::int64_t first, std::int64_t count) {
        if (b_.columns.size() < static_cast<std::size_t>(count)) b_.columns.resize(static_cast<std::size_t>(count));
        for (std::int64_t k = 0; k < count; ++k) b_.columns[static_cast<std::size_t>(k)] = reflect(first + k, width_);
        return b_.columns.data();
    }

    /// Where the points of a row of the grid lie: offsets into the box, and fractions.
    void find_points(std::int64_t i, std::int64_t j, std::int64_t n, const Box& box, std::int32_t stride) {
        const T u = static_cast<T>(map_.u(i, j) - static_cast<double>(box.u));
        const T v = static_cast<T>(map_.v(i, j) - static_cast<double>(box.v));
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

    /// Pixels `first` ... of row `row` of the planes, reflected at the sides.
    void load_reflected(std::int64_t row, std::int64_t first, std::int64_t count, const std::int64_t* columns, T* out) {
        const T* planes[L];
        const bool inside = first >= 0 && first + count <= width_;
        for (int l = 0; l < L; ++l)
            planes[l] = l < channels_ ? from_ + (l * height_ + row) * width_ : b_.zeros.data() - (inside ? first : 0);
        if (inside) {
            for (int l = 0; l < L; ++l) planes[l] += first;
            rows::gather_planes<L>(planes, out, count);
            return;
        }
        for (int l = 0; l < L; ++l) {
            if (l < channels_) {
                for (std::int64_t k = 0; k < count; ++k) out[k * L + l] = planes[l][columns[k]];
            } else {
                for (std::int64_t k = 0; k < count; ++k) out[k * L + l] = T(0);
            }
        }
    }

    void forward_tile(std::int64_t x, std::int64_t y, std::int64_t width, std::int64_t height) {
        const std::int64_t i = 2 * x, j = 2 * y, points = 2 * width + GRID_MARGIN, lines = 2 * height + GRID_MARGIN;
        const Box box = box_of(i, j, points, lines);
        const std::int64_t stride = rows::padded<T>((box.width + 1) * L) / L;
        T* lattice = nullptr;
        if (!box.huge) {
            lattice = b_.room(b_.box, box.height * stride * L);
            fill_lattice(box, stride, lattice);
            room_for_points(points);
        }

        // The last 12 lines of the grid, each in its place modulo 12.
        const std::int64_t line_size = rows::padded<T>(points * L);
        T* ring = b_.room(b_.line, (TAPS + 2) * line_size);
        T *sums = ring + TAPS * line_size, *pixels = sums + line_size;
        for (std::int64_t line = 0; line < lines; ++line) {
            T* values = ring + line % TAPS * line_size;
            if (box.huge) {
                look_up_singly(i, j + line, points, values);
            } else {
                find_points(i, j + line, points, box, static_cast<std::int32_t>(stride));
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

    void fill_lattice(const Box& box, std::int64_t stride, T* lattice) {
        const Doubling<T> weights = Doubling<T>::up();
        const std::int64_t count = box.width / 2 + 6, high = box.height / 2 + 6;
        const std::int64_t first = box.u / 2 - 3, top = box.v / 2 - 3;
        const std::int64_t* columns = reflected(first, count);
        T* row = b_.room(b_.row, count * L);
        T* window = b_.room(b_.window, high * stride * L);
        b_.room(b_.zeros, std::max(width_, count));
        for (std::int64_t k = 0; k < high; ++k) {
            load_reflected(reflect(top + k, height_), first, count, columns, row);
            double_row<L>(row, weights, window + k * stride * L, box.width / 2, b_);
        }
        for (std::int64_t k = 0; k < box.height; ++k)
            between_rows(window, stride * L, weights, k, lattice + k * stride * L, box.width * L);
    }

    void store(const T* pixels, std::int64_t x, std::int64_t y, std::int64_t count) {
        const One* in = reinterpret_cast<const One*>(pixels);
        T* out = to_ + y * width_ + x;
        for (std::int64_t k = 0; k < count; ++k) {
            const One pixel = colored_ ? colored(in[k]) : in[k];
            for (int l = 0; l < channels_; ++l) out[l * height_ * width_ + k] = get(pixel, l);
        }
    }

    void adjoint_tile(std::int64_t i, std::int64_t j, std::int64_t points, std::int64_t lines) {
        const Box box = box_of(i, j, points, lines);
        const std::int64_t stride = rows::padded<T>((box.width + 1) * L) / L;
        T* lattice = nullptr;
        if (!box.huge) {
            lattice = b_.room(b_.box, box.height * stride * L);
            std::fill(lattice, lattice + box.height * stride * L, T(0));
            room_for_points(points);
        }
        const Doubling<T> weights = Doubling<T>::of_gradients();
        const std::int64_t line_size = rows::padded<T>(points * L), high = lines / 2 + 5;
        T* row = b_.room(b_.row, (points / 2 + 5) * L);
        T* window = b_.room(b_.window, high * line_size);
        T* values = b_.room(b_.line, line_size);
        for (std::int64_t k = 0; k < high; ++k) {
            load_gradient(j / 2 - 5 + k, i / 2 - 5, points / 2 + 5, row);
            double_row<L>(row, weights, window + k * line_size, points / 2, b_);
        }
        for (std::int64_t line = 0; line < lines; ++line) {
            between_rows(window, line_size, weights, line, values, points * L);
            if (box.huge) {
                spread_singly(i, j + line, points, values);
            } else {
                find_points(i, j + line, points, box, static_cast<std::int32_t>(stride));
                spread(lattice, stride, points, values);
            }
        }
        if (!box.huge) gather_lattice(box, stride, lattice);
    }

    /// The gradient of the output's pixels, zero beyond them, taken back through the colours.
    void load_gradient(std::int64_t row, std::int64_t first, std::int64_t count, T* out) {
        std::fill(out, out + count * L, T(0));
        if (row < 0 || row >= height_) return;
        const T* in = from_ + row * width_ + first;
        const std::int64_t end = std::min(count, width_ - first);
        for (std::int64_t k = std::max(std::int64_t{0}, -first); k < end; ++k) {
            One pixel{};
            for (int l = 0; l < channels_; ++l) set(pixel, l, in[l * height_ * width_ + k]);
            reinterpret_cast<One*>(out)[k] = colored_ ? colored(pixel) : pixel;
        }
    }

    /// Add up what the pixels of the image gave to the lattice.
    void gather_lattice(const Box& box, std::int64_t stride, const T* lattice) {
        const std::int64_t count = box.width / 2 + 6, high = box.height / 2 + 6;
        const std::int64_t first = box.u / 2 - 3, top = box.v / 2 - 3, margin = TAPS - 1;
        const std::int64_t* columns = reflected(first, count);
        const bool inside = first >= 0 && first + count <= width_;
        const std::int64_t line_size = rows::padded<T>((box.width + 2 * margin) * L);
        T* line = b_.room(b_.line, 2 * line_size);
        T* pixels = line + line_size;
        std::fill(line, line + line_size, T(0));
        for (std::int64_t k = 0; k < high; ++k) {
            const std::int64_t above = 2 * k - margin;
            column_sums(lattice, stride * L, above, box.height, box.width * L, line + margin * L);
            halve_row<L>(line, twice_, pixels, count, b_);
            T* out = to_ + reflect(top + k, height_) * width_;
            for (int l = 0; l < channels_; ++l, out += height_ * width_) {
                if (inside) {
                    for (std::int64_t x = 0; x < count; ++x) out[first + x] += pixels[x * L + l];
                } else {
                    for (std::int64_t x = 0; x < count; ++x) out[columns[x]] += pixels[x * L + l];
                }
            }
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
        // Whole vectors were written: what lies beyond the row is zero again.
        std::fill(out + n, out + rows::padded<T>(n), T(0));
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
