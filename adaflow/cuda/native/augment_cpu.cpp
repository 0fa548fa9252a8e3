// The augmentation of a batch on a CPU. Threads share out the images; each image is worked on by one.

#include "augment_resample.h"

namespace {

using namespace adaflow;
using namespace adaflow::augment;

/// A batch of images [n, channels, height, width], and what happens to them.
template <typename T>
struct Batch {
    const T* from;
    T* to;
    const float* inverses;
    const float* colors;
    const std::uint8_t* kinds;
    std::int64_t channels, height, width;
    bool transposed, derivative;

    std::int64_t plane() const { return height * width; }
};

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
    const Batch<T>& batch, const T* from, T* to, const Map& map, const Colors<T>& colors, Buffers<T>& buffers) {
    const std::int64_t width = batch.width, height = batch.height, plane = batch.plane();
    const auto a = static_cast<std::int64_t>(map.a), b = static_cast<std::int64_t>(map.b);
    const auto d = static_cast<std::int64_t>(map.d), e = static_cast<std::int64_t>(map.e);
    const auto left = static_cast<std::int64_t>(map.c), top = static_cast<std::int64_t>(map.f);
    std::vector<std::int64_t> source(static_cast<std::size_t>(width));
    T* line = buffers.room(buffers.line, batch.channels * width);
    if (batch.transposed) std::fill(to, to + batch.channels * plane, T(0));
    for (std::int64_t y = 0; y < height; ++y) {
        for (std::int64_t x = 0; x < width; ++x)
            source[static_cast<std::size_t>(x)] =
                reflect(d * x + e * y + top, height) * width + reflect(a * x + b * y + left, width);
        if (batch.transposed) {
            for (std::int64_t c = 0; c < batch.channels; ++c)
                std::copy_n(from + c * plane + y * width, width, line + c * width);
            if (colors.on) color_rows(line, line, width, batch.channels, width, colors);
            for (std::int64_t c = 0; c < batch.channels; ++c)
                for (std::int64_t x = 0; x < width; ++x)
                    to[c * plane + source[static_cast<std::size_t>(x)]] += line[c * width + x];
        } else {
            T* out = to + y * width;
            for (std::int64_t c = 0; c < batch.channels; ++c)
                for (std::int64_t x = 0; x < width; ++x)
                    out[c * plane + x] = from[c * plane + source[static_cast<std::size_t>(x)]];
            if (colors.on) color_rows(out, out, plane, batch.channels, width, colors);
        }
    }
}

template <typename T, int L>
void resample_image(
    const Batch<T>& batch, const T* from, T* to, const Map& map, const Colors<T>& colors, Buffers<T>& buffers) {
    if (batch.transposed) std::fill(to, to + batch.channels * batch.plane(), T(0));
    for (std::int64_t c = 0; c < batch.channels; c += L) {
        const std::int64_t count = std::min<std::int64_t>(L, batch.channels - c);
        Resampling<T, L> resampling(
            from + c * batch.plane(), to + c * batch.plane(), count, batch.height, batch.width, map, colors, c,
            buffers);
        if (batch.transposed) {
            resampling.adjoint();
        } else {
            resampling.forward();
        }
    }
}

template <typename T>
void augment_image(const Batch<T>& batch, std::int64_t number, Buffers<T>& buffers) {
    const std::int64_t size = batch.channels * batch.plane();
    const T* from = batch.from + number * size;
    T* to = batch.to + number * size;
    const std::uint8_t kind = batch.kinds[number];
    const Colors<T> colors(batch.colors + 12 * number, batch.channels, kind, batch.transposed, batch.derivative);
    if (kind & (MOVED | RESAMPLED)) {
        const Map map(batch.inverses + 9 * number, batch.height, batch.width);
        if (!(kind & RESAMPLED)) {
            move_image(batch, from, to, map.rounded(), colors, buffers);
        } else if (batch.channels == 1) {
            resample_image<T, 1>(batch, from, to, map, colors, buffers);
        } else {
            resample_image<T, 4>(batch, from, to, map, colors, buffers);
        }
    } else if (colors.on) {
        color_rows(from, to, batch.plane(), batch.channels, batch.plane(), colors);
    } else {
        std::copy_n(from, size, to);
    }
}

template <typename T>
int augment_batch(const Batch<T>& batch, std::int64_t n, std::int64_t threads) {
#pragma omp parallel num_threads(threads)
    {
        static thread_local Buffers<T> buffers;
#pragma omp for schedule(dynamic, 1)
        for (std::int64_t number = 0; number < n; ++number) augment_image(batch, number, buffers);
    }
    return 0;
}

}  // namespace

// out = the augmented images, for `transposed` the gradient of the images from one of the augmented ones; `derivative`
// leaves the offset of the colours out. images, out [n, channels, height, width]; inverses [n, 3, 3]; colors [n, 3, 4];
// kinds [n]; a pointer that GPUs need.
extern "C" int adaflow_augment_f32(
    const float* images, float* out, const float* inverses, const float* colors, const std::uint8_t* kinds, void*,
    std::int64_t n, std::int64_t channels, std::int64_t height, std::int64_t width, int transposed, int derivative,
    std::int64_t threads) {
    return augment_batch<float>(
        {images, out, inverses, colors, kinds, channels, height, width, transposed != 0, derivative != 0}, n, threads);
}

extern "C" int adaflow_augment_f64(
    const double* images, double* out, const float* inverses, const float* colors, const std::uint8_t* kinds, void*,
    std::int64_t n, std::int64_t channels, std::int64_t height, std::int64_t width, int transposed, int derivative,
    std::int64_t threads) {
    return augment_batch<double>(
        {images, out, inverses, colors, kinds, channels, height, width, transposed != 0, derivative != 0}, n, threads);
}
