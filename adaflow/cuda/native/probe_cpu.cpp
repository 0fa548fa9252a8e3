// Proves that the CPU library was built, loads, runs, and uses threads.

#include "common.h"

// out[i] = i for i < size.
extern "C" int adaflow_probe_f32(float* out, std::int64_t size, std::int64_t threads) {
#pragma omp parallel for num_threads(threads) schedule(static)
    for (std::int64_t i = 0; i < size; ++i) out[i] = static_cast<float>(i);
    return 0;
}

// What an error code means.
extern "C" const char* adaflow_error(int) { return "the kernel refused its arguments"; }
