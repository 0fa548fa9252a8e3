// The plan of a batch, on a CPU.

#include "compose.h"

using namespace adaflow::augment;

// inverses [n, 3, 3], colors [n, 3, 4], kinds [n]: see Plan. The rest: see Given.
extern "C" int adaflow_compose_f32(
    float* inverses, float* colors, std::uint8_t* kinds, const float* planar_drawn, const float* colors_drawn,
    const std::uint8_t* gates, std::int64_t planar_count, std::int64_t color_count, std::int64_t n, std::int64_t height,
    std::int64_t width, std::int64_t resampling, std::int64_t skipped, std::int64_t) {
    const Given given{
        planar_drawn, colors_drawn, gates, planar_count, color_count, n, height, width, resampling, skipped,
    };
    for (std::int64_t number = 0; number < n; ++number) compose(given, number, inverses, colors, kinds);
    return 0;
}

// Those parts of a Plan that there is a place for; the others may be null. The rest: see Places.
extern "C" int adaflow_draw_f32(
    float* inverses, float* colors, std::uint8_t* kinds, float* taps, float* strengths, float* centres,
    const std::int64_t* formulas, const float* settings, const double* weights, const std::int64_t* keys,
    const double* p, const std::int64_t* images, const float* filters, std::int64_t count, std::int64_t n,
    std::int64_t channels, std::int64_t height, std::int64_t width, std::int64_t) {
    const Places places{
        formulas, settings, weights, keys, p, images, filters, count, n, channels, height, width,
    };
    for (std::int64_t number = 0; number < n; ++number)
        draw(places, number, {inverses, colors, taps, strengths, centres, kinds});
    return 0;
}
