// Random numbers on a CPU. Each is a function of its key, image, call and place alone: threads share them out at will.

#include "random.h"

namespace {

using namespace adaflow::random;

/// Fewer numbers than this are not worth a second thread.
constexpr std::int64_t FEW = 20000;

struct Numbers {
    float* out;
    const std::int64_t *keys, *images;
    std::int64_t key_count, image_count, elements, call;
};

template <class Kind>
int make(const Numbers& of, std::int64_t threads) {
    const std::int64_t rows = of.key_count * of.image_count;
#pragma omp parallel for num_threads(threads) schedule(static) if (rows * of.elements > FEW)
    for (std::int64_t row = 0; row < rows; ++row)
        fill<Kind>(of.out + row * of.elements, static_cast<std::uint64_t>(of.keys[row / of.image_count]),
                   static_cast<std::uint64_t>(of.images[row % of.image_count]), static_cast<std::uint32_t>(of.call), 0,
                   of.elements);
    return 0;
}

}  // namespace

// out[k, n, e] for keys [k] and images [n]: uniform in (0, 1), and normal.
extern "C" int adaflow_uniform_f32(
    float* out, const std::int64_t* keys, const std::int64_t* images, std::int64_t key_count, std::int64_t image_count,
    std::int64_t elements, std::int64_t call, std::int64_t threads) {
    return make<Uniform>({out, keys, images, key_count, image_count, elements, call}, threads);
}
extern "C" int adaflow_normal_f32(
    float* out, const std::int64_t* keys, const std::int64_t* images, std::int64_t key_count, std::int64_t image_count,
    std::int64_t elements, std::int64_t call, std::int64_t threads) {
    return make<Normal>({out, keys, images, key_count, image_count, elements, call}, threads);
}
