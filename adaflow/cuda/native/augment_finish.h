// What is done to the pixels of an augmented image at last: noise and cutout. What CPU and GPU share.

#pragma once

#include "augment.h"
#include "random.h"

namespace adaflow {
namespace augment {

/// Numbers of a stream that come in its first call, the gate's and the strength's among them.
constexpr std::int64_t FIRST_NUMBERS = 8, USED_NUMBERS = 2;

/// Where the noise of the images of a batch stands in their streams: after the numbers that were used before, if all of
/// it still fits into the first call, and else in a call of its own. See RandomDraw in adaflow/core/draw.py.
struct NoisePlace {
    std::uint32_t call, first;

    explicit ADAFLOW_FN NoisePlace(std::int64_t size)
        : call(USED_NUMBERS + size > FIRST_NUMBERS), first(call == 0 ? USED_NUMBERS : 0) {}
};

/// The rectangle that is cut out of an image: pixels whose centre is less than half the size away from its centre.
struct Cutout {
    bool on;
    float x, y, reach;

    ADAFLOW_FN Cutout(const Plan& plan, std::int64_t number) : on((plan.kinds[number] & CUT) != 0) {
        if (!on) return;
        x = plan.centres[2 * number], y = plan.centres[2 * number + 1], reach = 0.5f * plan.cutout;
    }

    static ADAFLOW_FN bool near(std::int64_t pixel, std::int64_t size, float centre, float reach) {
        return fabsf((static_cast<float>(pixel) + 0.5f) / static_cast<float>(size) - centre) < reach;
    }
    ADAFLOW_FN bool covers_row(std::int64_t row, std::int64_t height) const { return on && near(row, height, y, reach); }
    ADAFLOW_FN bool covers_column(std::int64_t column, std::int64_t width) const { return near(column, width, x, reach); }
};

/// The value at `place` of an image, in row `row` and column `column`, after noise and cutout, or what the adjoint of
/// them makes of it.
template <typename T>
ADAFLOW_FN T finished(
    const Plan& plan, std::int64_t number, std::int64_t place, std::int64_t row, std::int64_t column, T value) {
    const Cutout cutout(plan, number);
    if (cutout.covers_row(row, plan.height) && cutout.covers_column(column, plan.width)) return T(0);
    if (!(plan.kinds[number] & NOISY) || plan.transposed || plan.derivative) return value;
    const NoisePlace noise(plan.size());
    const auto count = static_cast<std::uint32_t>(place) + noise.first;
    const random::Block block = random::block_of(
        plan.noise_key, static_cast<std::uint64_t>(plan.images[number]), noise.call, count / random::WORDS);
    const float unit = random::uniform(block.word[count % random::WORDS]);
    return value + static_cast<T>(plan.strengths[number] * random::normal(unit));
}

}  // namespace augment
}  // namespace adaflow
