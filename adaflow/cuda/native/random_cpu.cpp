// Random numbers on a CPU. Each is a function of its key, image, call and place alone: threads share them out at will.

#include "random.h"

namespace {

using namespace adaflow::random;

/// Fewer numbers than this are not worth a second thread.
constexpr std::int64_t FEW = 20000;

}  // namespace

// out[k, n, e] uniform in (0, 1), for keys [k] and images [n].
extern "C" int adaflow_uniform_f32(
    float* out, const std::int64_t* keys, const std::int64_t* images, std::int64_t key_count, std::int64_t image_count,
    std::int64_t elements, std::int64_t call, std::int64_t threads) {
    const std::int64_t rows = key_count * image_count;
#pragma omp parallel for num_threads(threads) schedule(static) if (rows * elements > FEW)
    for (std::int64_t row = 0; row < rows; ++row)
        fill(out + row * elements, static_cast<std::uint64_t>(keys[row / image_count]),
             static_cast<std::uint64_t>(images[row % image_count]), static_cast<std::uint32_t>(call), 0, elements);
    return 0;
}
