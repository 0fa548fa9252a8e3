// The maps of a batch, composed on a CPU.

#include "compose.h"

// inverses [n, 3, 3], colors [n, 3, 4], kinds [n]: see augment_cpu.cpp. The rest: see Drawn.
extern "C" int adaflow_compose_f32(
    float* inverses, float* colors, std::uint8_t* kinds, const float* planar_drawn, const float* colors_drawn,
    const std::uint8_t* gates, std::int64_t planar_count, std::int64_t color_count, std::int64_t n, std::int64_t height,
    std::int64_t width, std::int64_t resampling, std::int64_t skipped, std::int64_t) {
    const adaflow::augment::Drawn drawn{
        planar_drawn, colors_drawn, gates, planar_count, color_count, n, height, width, resampling, skipped,
    };
    for (std::int64_t number = 0; number < n; ++number)
        adaflow::augment::compose(drawn, number, inverses, colors, kinds);
    return 0;
}
