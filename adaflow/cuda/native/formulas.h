// What the built-in transforms draw for an image: the same numbers, from the same streams, as the classes in
// adaflow/plugins/augmentations, which say what they mean. What CPU and GPU share.

#pragma once

#include "augment.h"
#include "random.h"

namespace adaflow {
namespace augment {

/// The built-in transforms, in the order of FORMULAS in adaflow/cuda/augment.py: those of the plane, of which the first
/// three move whole pixels, of the colours, of the bands, and of pixels.
enum Formula : std::int64_t {
    XFLIP, ROTATE90, XINT, SCALE, ROTATE, ANISO, XFRAC,
    BRIGHTNESS, CONTRAST, LUMAFLIP, HUE, SATURATION,
    BAND1, BAND2, BAND3, BAND4,
    NOISE, CUTOUT,
};

constexpr float PI = 3.14159265f;
constexpr int BANDS = 4;
/// Expected power of natural images in the lowest band, and in each of the others.
constexpr float LOWEST_POWER = 10.0f / 13, OTHER_POWER = 1.0f / 13;

/// The first numbers of a stream for an image; number 0 is the gate's.
struct Drawn {
    float unit[random::WORDS];

    ADAFLOW_FN Drawn(std::uint64_t key, std::uint64_t image) {
        const random::Block block = random::block_of(key, image, 0, 0);
        for (int k = 0; k < random::WORDS; ++k) unit[k] = random::uniform(block.word[k]);
    }

    ADAFLOW_FN bool fires(float probability) const { return unit[0] < probability; }
    /// Uniform in -max ... max.
    ADAFLOW_FN float within(int k, float max) const { return unit[k] * (2 * max) - max; }
    ADAFLOW_FN float normal(int k, float std) const { return std * random::normal(unit[k]); }
    ADAFLOW_FN float half_normal(int k, float std) const { return 1.41421356f * std * random::erfinv(unit[k]); }
    /// 2 to the power of a normal number.
    ADAFLOW_FN float factor(float std) const { return exp2f(normal(1, std)); }
    /// Of 0 ... count - 1.
    ADAFLOW_FN int integer(int count) const {
        const int value = static_cast<int>(unit[1] * static_cast<float>(count));
        return value < count ? value : count - 1;
    }
};

/// The probability of a gate of a transform, in double as in Python, so that the same gates open.
ADAFLOW_FN float gate(Formula formula, double p, double weight) {
    const double share = fmin(fmax(p * weight, 0.0), 1.0);
    return static_cast<float>(formula == ROTATE ? 1.0 - sqrt(1.0 - share) : share);
}

/// Where a transform of the plane takes points, [3, 3], in pixels from the centre of the image.
ADAFLOW_FN void planar_map(
    Formula formula, float setting, const Drawn& drawn, float height, float width, float* matrix) {
    float a = 1, b = 0, x = 0, c = 0, d = 1, y = 0;
    if (formula == XFLIP) {
        a = drawn.integer(2) == 1 ? -1.0f : 1.0f;
    } else if (formula == ROTATE90) {
        const int turns = drawn.integer(4);
        a = d = turns == 0 ? 1.0f : turns == 2 ? -1.0f : 0.0f;
        b = turns == 1 ? 1.0f : turns == 3 ? -1.0f : 0.0f;
        c = -b;
    } else if (formula == XINT) {
        x = rintf(drawn.within(1, setting) * width), y = rintf(drawn.within(2, setting) * height);
    } else if (formula == SCALE) {
        a = d = drawn.factor(setting);
    } else if (formula == ROTATE) {
        const float angle = drawn.within(1, setting * PI);
        a = d = cosf(angle), b = sinf(angle), c = -b;
    } else if (formula == ANISO) {
        a = drawn.factor(setting), d = 1.0f / a;
    } else if (formula == XFRAC) {
        x = drawn.normal(1, setting) * width, y = drawn.normal(2, setting) * height;
    }
    const float values[9] = {a, b, x, c, d, y, 0, 0, 1};
    for (int k = 0; k < 9; ++k) matrix[k] = values[k];
}

/// Where a transform takes colours, [4, 4]. All of them are an offset, or a map that multiplies the greys by one number
/// and what is orthogonal to them by another, and turns it about the axis of the greys.
ADAFLOW_FN void color_map(Formula formula, float setting, const Drawn& drawn, float* matrix) {
    float offset = 0, grey = 1, across = 1, turned = 0;
    if (formula == BRIGHTNESS) {
        offset = drawn.normal(1, setting);
    } else if (formula == CONTRAST) {
        grey = across = drawn.factor(setting);
    } else if (formula == LUMAFLIP) {
        grey = drawn.integer(2) == 1 ? -1.0f : 1.0f;
    } else if (formula == HUE) {
        const float angle = drawn.within(1, setting * PI);
        across = cosf(angle), turned = sinf(angle) / sqrtf(3.0f);
    } else if (formula == SATURATION) {
        across = drawn.factor(setting);
    }
    for (int row = 0; row < 4; ++row)
        for (int column = 0; column < 4; ++column) matrix[4 * row + column] = row == column ? 1.0f : 0.0f;
    for (int row = 0; row < 3; ++row) {
        for (int column = 0; column < 3; ++column) {
            const int steps = (column - row + 3) % 3;
            const float both = (grey - across) / 3;
            matrix[4 * row + column] = steps == 0 ? across + both : steps == 1 ? both - turned : both + turned;
        }
        matrix[4 * row + 3] = offset;
    }
}

/// Multiply the gains of the bands by those for one that is amplified while the expected power stays the same.
ADAFLOW_FN void amplify(int band, float gain, float* gains) {
    const float power = band == 0 ? LOWEST_POWER : OTHER_POWER;
    const float scale = 1.0f / sqrtf(1.0f + power * (gain * gain - 1.0f));
    for (int k = 0; k < BANDS; ++k) gains[k] *= k == band ? gain * scale : scale;
}

}  // namespace augment
}  // namespace adaflow
