// The augmentation of a batch on a CPU. Threads share out the images; each image is worked on by one.

#include "augment_finish.h"
#include "augment_resample.h"
#include "bands_rows.h"

namespace {

using namespace adaflow;
using namespace adaflow::augment;

/// Rows out[c] with the colours of rows in[c]; they may be the same rows.
template <typename T>
void color_rows(
    const T* in, T* out, std::int64_t plane, std::int64_t channels, std::int64_t n, const Colors<T>& colors) {
    std::int64_t done = 0;
    if (colors.rgb) {
#pragma omp simd
        for (std::int64_t k = 0; k < n; ++k) {
            const T red = in[k], green = in[plane + k], blue = in[2 * plane + k];
            for (int row = 0; row < 3; ++row) {
                const T* m = colors.m[row];
                out[row * plane + k] = m[0] * red + m[1] * green + m[2] * blue + colors.offset[row];
            }
        }
        done = 3;
    }
    for (std::int64_t c = done; c < channels; ++c) {
        const T gain = colors.changes(c) ? colors.gain() : T(1), offset = colors.changes(c) ? colors.offset[0] : T(0);
        for (std::int64_t k = 0; k < n; ++k) out[c * plane + k] = gain * in[c * plane + k] + offset;
    }
}

/// An image whose pixels are copied from elsewhere, or the adjoint: each gives to the one that it was copied from.
template <typename T>
void move_image(
    const Plan& plan, const T* from, T* to, const Map& map, const Colors<T>& colors, Buffers<T>& buffers) {
    const std::int64_t width = plan.width, height = plan.height, plane = plan.plane();
    const auto a = static_cast<std::int64_t>(map.a), b = static_cast<std::int64_t>(map.b);
    const auto d = static_cast<std::int64_t>(map.d), e = static_cast<std::int64_t>(map.e);
    const auto left = static_cast<std::int64_t>(map.c), top = static_cast<std::int64_t>(map.f);
    std::vector<std::int64_t> source(static_cast<std::size_t>(width));
    T* line = buffers.room(buffers.line, plan.channels * width);
    if (plan.transposed) std::fill(to, to + plan.channels * plane, T(0));
    for (std::int64_t y = 0; y < height; ++y) {
        for (std::int64_t x = 0; x < width; ++x)
            source[static_cast<std::size_t>(x)] =
                reflect(d * x + e * y + top, height) * width + reflect(a * x + b * y + left, width);
        if (plan.transposed) {
            for (std::int64_t c = 0; c < plan.channels; ++c)
                std::copy_n(from + c * plane + y * width, width, line + c * width);
            if (colors.on) color_rows(line, line, width, plan.channels, width, colors);
            for (std::int64_t c = 0; c < plan.channels; ++c)
                for (std::int64_t x = 0; x < width; ++x)
                    to[c * plane + source[static_cast<std::size_t>(x)]] += line[c * width + x];
        } else {
            T* out = to + y * width;
            for (std::int64_t c = 0; c < plan.channels; ++c)
                for (std::int64_t x = 0; x < width; ++x)
                    out[c * plane + x] = from[c * plane + source[static_cast<std::size_t>(x)]];
            if (colors.on) color_rows(out, out, plane, plan.channels, width, colors);
        }
    }
}

template <typename T, int L>
void resample_image(
    const Plan& plan, const T* from, T* to, const Map& map, const Colors<T>& colors, Buffers<T>& buffers) {
    if (plan.transposed) std::fill(to, to + plan.size(), T(0));
    for (std::int64_t c = 0; c < plan.channels; c += L) {
        const std::int64_t count = std::min<std::int64_t>(L, plan.channels - c);
        Resampling<T, L> resampling(
            from + c * plan.plane(), to + c * plan.plane(), count, plan.height, plan.width, map, colors, c, buffers);
        if (plan.transposed) {
            resampling.adjoint();
        } else {
            resampling.forward();
        }
    }
}

/// Geometry and colours, or the adjoint.
template <typename T>
void move_and_color(const Plan& plan, std::int64_t number, const T* from, T* to, Buffers<T>& buffers) {
    const std::uint8_t kind = plan.kinds[number];
    const Colors<T> colors(plan.colors + 12 * number, plan.channels, kind, plan.transposed, plan.derivative);
    if (kind & (MOVED | RESAMPLED)) {
        const Map map(plan.inverses + 9 * number, plan.height, plan.width);
        if (!(kind & RESAMPLED)) {
            move_image(plan, from, to, map.rounded(), colors, buffers);
        } else if (plan.channels == 1) {
            resample_image<T, 1>(plan, from, to, map, colors, buffers);
        } else {
            resample_image<T, 4>(plan, from, to, map, colors, buffers);
        }
    } else if (colors.on) {
        color_rows(from, to, plan.plane(), plan.channels, plan.plane(), colors);
    } else {
        std::copy_n(from, plan.size(), to);
    }
}

/// Filter the bands of an image, or the adjoint, in place.
template <typename T>
void filter(const Plan& plan, std::int64_t number, T* image, Buffers<T>& buffers) {
    if (!(plan.kinds[number] & FILTERED)) return;
    for (std::int64_t c = 0; c < plan.channels; ++c) {
        T* plane = image + c * plan.plane();
        bands::filter_plane(
            plane, plane, plan.taps + BAND_TAPS * number, plan.height, plan.width, plan.transposed, buffers);
    }
}

template <typename T>
void add_noise(const Plan& plan, std::int64_t number, T* image) {
    if (!(plan.kinds[number] & NOISY) || plan.derivative) return;
    constexpr std::int64_t BLOCKS = 256;
    float units[BLOCKS * random::WORDS];
    const NoisePlace place(plan.size());
    const float strength = plan.strengths[number];
    const auto name = static_cast<std::uint64_t>(plan.images[number]);
    // The first number of the image stands at `place.first` of its stream.
    const std::int64_t end = plan.size() + place.first;
    for (std::int64_t begin = 0; begin < end; begin += BLOCKS * random::WORDS) {
        const std::int64_t count = std::min(BLOCKS * random::WORDS, end - begin);
        random::fill<random::Uniform>(
            units, plan.noise_key, name, place.call, static_cast<std::uint32_t>(begin / random::WORDS), count);
        T* out = image + begin - place.first;
#pragma omp simd
        for (std::int64_t k = begin == 0 ? place.first : 0; k < count; ++k)
            out[k] += static_cast<T>(strength * random::normal(units[k]));
    }
}

template <typename T>
void cut_out(const Plan& plan, std::int64_t number, T* image) {
    const Cutout cutout(plan, number);
    if (!cutout.on) return;
    for (std::int64_t y = 0; y < plan.height; ++y) {
        if (!cutout.covers_row(y, plan.height)) continue;
        for (std::int64_t x = 0; x < plan.width; ++x) {
            if (!cutout.covers_column(x, plan.width)) continue;
            for (std::int64_t c = 0; c < plan.channels; ++c) image[c * plan.plane() + y * plan.width + x] = T(0);
        }
    }
}

/// All that happens to an image, while it is in the cache.
template <typename T>
void augment_image(const Plan& plan, std::int64_t number, const T* from, T* to, Buffers<T>& buffers) {
    if (!plan.transposed) {
        move_and_color(plan, number, from, to, buffers);
        filter(plan, number, to, buffers);
        add_noise(plan, number, to);
        cut_out(plan, number, to);
    } else if (plan.kinds[number] & (FILTERED | CUT)) {
        T* gradient = buffers.room(buffers.image, plan.size());
        std::copy_n(from, plan.size(), gradient);
        cut_out(plan, number, gradient);
        filter(plan, number, gradient, buffers);
        move_and_color(plan, number, gradient, to, buffers);
    } else {
        move_and_color(plan, number, from, to, buffers);
    }
}

template <typename T>
int augment_batch(const T* images, T* out, const Plan& plan, std::int64_t threads) {
#pragma omp parallel num_threads(threads)
    {
        static thread_local Buffers<T> buffers;
#pragma omp for schedule(dynamic, 1)
        for (std::int64_t number = 0; number < plan.n; ++number)
            augment_image(plan, number, images + number * plan.size(), out + number * plan.size(), buffers);
    }
    return 0;
}

}  // namespace

// out = the augmented images, for `transposed` the gradient of the images from one of the augmented ones; `derivative`
// leaves out what is added: the offset of the colours, and noise. images, out [n, channels, height, width]; then see
// Plan; two pointers that GPUs need.
extern "C" int adaflow_augment_f32(
    const float* images, float* out, const float* inverses, const float* colors, const std::uint8_t* kinds,
    const float* taps, const float* strengths, const std::int64_t* numbers, const float* centres,
    std::int64_t noise_key, float cutout, void*, void*, std::int64_t n, std::int64_t channels, std::int64_t height,
    std::int64_t width, int transposed, int derivative, std::int64_t threads) {
    const Plan plan{
        inverses, colors, kinds, taps, strengths, numbers, centres, static_cast<std::uint64_t>(noise_key), cutout, n,
        channels, height, width, transposed != 0, derivative != 0,
    };
    return augment_batch<float>(images, out, plan, threads);
}

extern "C" int adaflow_augment_f64(
    const double* images, double* out, const float* inverses, const float* colors, const std::uint8_t* kinds,
    const float* taps, const float* strengths, const std::int64_t* numbers, const float* centres,
    std::int64_t noise_key, float cutout, void*, void*, std::int64_t n, std::int64_t channels, std::int64_t height,
    std::int64_t width, int transposed, int derivative, std::int64_t threads) {
    const Plan plan{
        inverses, colors, kinds, taps, strengths, numbers, centres, static_cast<std::uint64_t>(noise_key), cutout, n,
        channels, height, width, transposed != 0, derivative != 0,
    };
    return augment_batch<double>(images, out, plan, threads);
}
