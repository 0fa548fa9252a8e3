// A symmetric filter of its own for each image of a batch, on a CPU. Threads share out the images.

#include <algorithm>
#include <vector>

#include "bands.h"
#include "rows.h"

namespace {

using namespace adaflow;
using namespace adaflow::bands;

/// One plane; `line` and `sums` are memory for a reflected row and for all rows.
template <typename T>
void filter_plane(
    const T* in, T* out, const T* taps, std::int64_t height, std::int64_t width, bool transposed,
    std::vector<T>& line, std::vector<T>& sums) {
    const std::int64_t stride = rows::padded<T>(width);
    line.resize(static_cast<std::size_t>(stride + TAPS));
    sums.resize(static_cast<std::size_t>((height + 1) * stride));
    const T* shifted[TAPS];
    for (int k = 0; k < TAPS; ++k) shifted[k] = line.data() + k;
    for (std::int64_t y = 0; y < height; ++y) {
        const T* row = in + y * width;
        T* middle = line.data() + REACH;
        std::copy_n(row, width, middle);
        if (transposed) {
            for (std::int64_t x = 0; x < width; ++x) middle[x] *= T(border(x, width) * border(y, height));
        }
        for (std::int64_t k = 1; k <= REACH; ++k) {
            middle[-k] = middle[augment::reflect(-k, width)];
            middle[width - 1 + k] = middle[augment::reflect(width - 1 + k, width)];
        }
        rows::weighted_sum<TAPS>(shifted, taps, sums.data() + y * stride, width);
    }
    T* result = sums.data() + height * stride;
    for (std::int64_t y = 0; y < height; ++y) {
        const T* near[TAPS];
        for (int k = 0; k < TAPS; ++k) near[k] = sums.data() + augment::reflect(y + k - REACH, height) * stride;
        rows::weighted_sum<TAPS>(near, taps, result, width);
        if (transposed) {
            for (std::int64_t x = 0; x < width; ++x) result[x] /= T(border(x, width) * border(y, height));
        }
        std::copy_n(result, width, out + y * width);
    }
}

template <typename T>
int filter_batch(
    const T* images, T* out, const T* taps, const std::uint8_t* fired, std::int64_t n, std::int64_t channels,
    std::int64_t height, std::int64_t width, bool transposed, std::int64_t threads) {
    const std::int64_t plane = height * width;
#pragma omp parallel num_threads(threads)
    {
        static thread_local std::vector<T> line, sums;
#pragma omp for schedule(dynamic, 1)
        for (std::int64_t k = 0; k < n * channels; ++k) {
            const std::int64_t number = k / channels;
            if (fired[number]) {
                filter_plane(
                    images + k * plane, out + k * plane, taps + number * TAPS, height, width, transposed, line, sums);
            } else {
                std::copy_n(images + k * plane, plane, out + k * plane);
            }
        }
    }
    return 0;
}

}  // namespace

// images, out [n, channels, height, width]; taps [n, 43]; fired [n]: the others are copied.
extern "C" int adaflow_bands_f32(
    const float* images, float* out, const float* taps, const std::uint8_t* fired, std::int64_t n,
    std::int64_t channels, std::int64_t height, std::int64_t width, int transposed, std::int64_t threads) {
    return filter_batch(images, out, taps, fired, n, channels, height, width, transposed != 0, threads);
}

extern "C" int adaflow_bands_f64(
    const double* images, double* out, const double* taps, const std::uint8_t* fired, std::int64_t n,
    std::int64_t channels, std::int64_t height, std::int64_t width, int transposed, std::int64_t threads) {
    return filter_batch(images, out, taps, fired, n, channels, height, width, transposed != 0, threads);
}
