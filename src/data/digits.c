/* src/data/digits.c - see digits.h.
 * A glyph is a few strokes through control points.  Each sample bends the plane a little (a 3 x 3 grid of shifts),
 * turns, shears, scales and moves the glyph, and draws it with an antialiased pen whose ink has a grain. */
#include "data/digits.h"
#include "base/random.h"
#include <math.h>
#include <stdbool.h>
#include <string.h>

enum {
    EDGE = HSGD_DIGITS_EDGE,
    PIXELS = EDGE * EDGE,
    MAX_STROKES = 3,
    MAX_POINTS = 13,
    VARIANTS = 2, /* ways to write each digit */
    GRID = 3,     /* shifts along each side of the bending grid */
    PIECES = 4,   /* straight pieces between two points of a smooth stroke */
};

/* The random numbers of one sample, by their place among its DRAWS. */
enum {
    DRAW_LABEL,
    DRAW_VARIANT,
    DRAW_TURN,
    DRAW_SHEAR,
    DRAW_WIDTH,
    DRAW_HEIGHT,
    DRAW_RIGHT,
    DRAW_DOWN,
    DRAW_PEN,
    DRAW_INK,
    DRAW_BEND,
    DRAW_GRAIN = DRAW_BEND + 2 * GRID * GRID, /* 64 bits for 8 pixels */
    DRAWS = DRAW_GRAIN + PIXELS / 8,
};

typedef struct {
    double x, y;
} point;

typedef struct {
    int points; /* 0: no stroke */
    bool smooth;
    float at[MAX_POINTS][2]; /* x to the right, y down, the glyph filling 0..1 */
} stroke;

typedef struct {
    point bend[GRID][GRID];
    double xx, xy, yx, yy; /* pixels per glyph unit */
    double right, down;    /* place of the glyph's middle, in pixels */
} placement;

/* clang-format off */
static const stroke glyphs[HSGD_DIGITS_CLASSES][VARIANTS][MAX_STROKES] = {
    {{{9, true, {{.50, .05}, {.22, .18}, {.14, .50}, {.22, .82}, {.50, .95}, {.78, .82}, {.86, .50}, {.78, .18}, {.50, .05}}}},
     {{9, true, {{.55, .05}, {.32, .20}, {.26, .50}, {.34, .82}, {.52, .95}, {.70, .80}, {.75, .50}, {.70, .20}, {.42, .09}}}}},
    {{{2, false, {{.50, .05}, {.50, .95}}}},
     {{3, false, {{.28, .27}, {.52, .05}, {.52, .95}}}, {2, false, {{.30, .95}, {.74, .95}}}}},
    {{{7, true, {{.20, .27}, {.32, .10}, {.55, .05}, {.77, .18}, {.74, .42}, {.50, .67}, {.18, .95}}}, {2, false, {{.18, .95}, {.84, .93}}}},
     {{10, true, {{.22, .25}, {.50, .05}, {.76, .22}, {.66, .52}, {.36, .82}, {.20, .90}, {.20, .76}, {.36, .76}, {.58, .90}, {.86, .90}}}}},
    {{{5, true, {{.20, .14}, {.50, .05}, {.76, .16}, {.74, .36}, {.46, .47}}}, {6, true, {{.46, .47}, {.76, .56}, {.83, .75}, {.62, .92}, {.40, .95}, {.16, .84}}}},
     {{3, false, {{.18, .07}, {.78, .07}, {.46, .42}}}, {5, true, {{.46, .42}, {.76, .52}, {.82, .74}, {.60, .93}, {.18, .86}}}}},
    {{{3, false, {{.26, .06}, {.20, .52}, {.84, .50}}}, {2, false, {{.70, .10}, {.66, .95}}}},
     {{3, false, {{.64, .95}, {.62, .05}, {.14, .64}}}, {2, false, {{.14, .64}, {.88, .64}}}}},
    {{{3, false, {{.78, .07}, {.28, .07}, {.24, .44}}}, {7, true, {{.24, .44}, {.52, .38}, {.78, .52}, {.80, .74}, {.60, .92}, {.36, .94}, {.16, .84}}}},
     {{7, true, {{.32, .10}, {.26, .42}, {.54, .40}, {.76, .56}, {.72, .80}, {.48, .94}, {.18, .88}}}, {2, false, {{.32, .10}, {.80, .06}}}}},
    {{{10, true, {{.70, .06}, {.42, .22}, {.24, .50}, {.22, .76}, {.42, .95}, {.70, .88}, {.78, .68}, {.60, .52}, {.36, .58}, {.23, .74}}}},
     {{9, true, {{.48, .05}, {.32, .35}, {.24, .68}, {.36, .93}, {.60, .93}, {.72, .76}, {.60, .60}, {.40, .64}, {.27, .80}}}}},
    {{{3, false, {{.16, .08}, {.84, .08}, {.42, .95}}}},
     {{3, false, {{.16, .10}, {.82, .08}, {.48, .95}}}, {2, false, {{.34, .52}, {.76, .50}}}}},
    {{{13, true, {{.66, .09}, {.40, .06}, {.26, .22}, {.38, .42}, {.64, .57}, {.78, .76}, {.60, .94}, {.38, .94}, {.22, .76}, {.38, .57}, {.64, .42}, {.74, .24}, {.66, .09}}}},
     {{7, true, {{.50, .48}, {.28, .32}, {.34, .10}, {.52, .05}, {.70, .12}, {.72, .34}, {.50, .48}}}, {7, true, {{.50, .48}, {.24, .64}, {.26, .88}, {.50, .95}, {.76, .86}, {.76, .64}, {.50, .48}}}}},
    {{{7, true, {{.76, .28}, {.60, .07}, {.36, .08}, {.22, .28}, {.34, .48}, {.58, .48}, {.76, .28}}}, {3, true, {{.76, .28}, {.74, .60}, {.60, .95}}}},
     {{7, true, {{.74, .28}, {.58, .06}, {.36, .09}, {.24, .29}, {.36, .50}, {.60, .46}, {.74, .28}}}, {4, true, {{.74, .28}, {.77, .64}, {.60, .93}, {.28, .90}}}}},
};
/* clang-format on */

/* Uniform in [low, high): random number `draw` of sample `sample`. */
static double between(const hsgd_random *random, int64_t sample, int draw, double low, double high)
{
    return low + (high - low) * hsgd_random_uniform(random, (uint64_t)sample * DRAWS + (uint64_t)draw);
}

static placement place(const hsgd_random *r, int64_t i)
{
    const double size = 20.0; /* pixels of a glyph, as MNIST's digits fill a 20 x 20 box */
    const double half = between(r, i, DRAW_TURN, -0.13, 0.13); /* tangent of half the angle: up to 15 degrees */
    const double cosine = (1 - half * half) / (1 + half * half), sine = 2 * half / (1 + half * half);
    const double shear = between(r, i, DRAW_SHEAR, -0.35, 0.35);
    const double width = size * between(r, i, DRAW_WIDTH, 0.65, 1.05);
    const double height = size * between(r, i, DRAW_HEIGHT, 0.75, 1.05);
    placement p = {.xx = cosine * width,
                   .xy = (cosine * shear - sine) * height,
                   .yx = sine * width,
                   .yy = (sine * shear + cosine) * height,
                   .right = EDGE / 2.0 + between(r, i, DRAW_RIGHT, -2.5, 2.5),
                   .down = EDGE / 2.0 + between(r, i, DRAW_DOWN, -2.5, 2.5)};

    for (int k = 0; k < GRID * GRID; k++) {
        p.bend[k / GRID][k % GRID] =
            (point){between(r, i, DRAW_BEND + 2 * k, -0.09, 0.09), between(r, i, DRAW_BEND + 2 * k + 1, -0.09, 0.09)};
    }
    return p;
}

/* A glyph's point in pixels: bent by the grid's shifts (bilinear between them, so that strokes that meet stay joined),
 * then placed. */
static point to_pixels(const placement *p, double x, double y)
{
    const double u = x * (GRID - 1), v = y * (GRID - 1);
    const int column = u >= GRID - 2 ? GRID - 2 : (int)u, row = v >= GRID - 2 ? GRID - 2 : (int)v;
    const double a = u - column, b = v - row;
    const point *top = &p->bend[row][column], *bottom = &p->bend[row + 1][column];
    const double dx = (1 - b) * ((1 - a) * top[0].x + a * top[1].x) + b * ((1 - a) * bottom[0].x + a * bottom[1].x);
    const double dy = (1 - b) * ((1 - a) * top[0].y + a * top[1].y) + b * ((1 - a) * bottom[0].y + a * bottom[1].y);
    const double cx = x + dx - 0.5, cy = y + dy - 0.5;

    return (point){p->right + p->xx * cx + p->xy * cy, p->down + p->yx * cx + p->yy * cy};
}

/* Lay ink along the piece from `from` to `to`: full within `pen` pixels, fading over the one beyond. */
static void draw_piece(point from, point to, double pen, double ink[PIXELS])
{
    const double reach = pen + 0.5, dx = to.x - from.x, dy = to.y - from.y, square = dx * dx + dy * dy;
    const int left = (int)fmax(0, fmin(from.x, to.x) - reach), right = (int)fmin(EDGE - 1, fmax(from.x, to.x) + reach);
    const int top = (int)fmax(0, fmin(from.y, to.y) - reach), bottom = (int)fmin(EDGE - 1, fmax(from.y, to.y) + reach);

    for (int row = top; row <= bottom; row++) {
        for (int column = left; column <= right; column++) {
            const double x = column + 0.5 - from.x, y = row + 0.5 - from.y;
            const double along = square > 0 ? fmin(1, fmax(0, (x * dx + y * dy) / square)) : 0;
            const double away = (x - along * dx) * (x - along * dx) + (y - along * dy) * (y - along * dy);

            if (away < reach * reach) {
                ink[row * EDGE + column] = fmax(ink[row * EDGE + column], fmin(1, reach - sqrt(away)));
            }
        }
    }
}

/* The value at t in [0, 1] between b and c of the Catmull-Rom spline through a, b, c, d. */
static double spline(double a, double b, double c, double d, double t)
{
    return b + 0.5 * t * (c - a + t * (2 * a - 5 * b + 4 * c - d + t * (3 * (b - c) + d - a)));
}

static void draw_stroke(const stroke *s, const placement *p, double pen, double ink[PIXELS])
{
    const int pieces = s->smooth ? PIECES : 1;
    point last = to_pixels(p, s->at[0][0], s->at[0][1]);

    for (int k = 0; k + 1 < s->points; k++) {
        const float *a = s->at[k > 0 ? k - 1 : 0], *b = s->at[k], *c = s->at[k + 1];
        const float *d = s->at[k + 2 < s->points ? k + 2 : s->points - 1];

        for (int piece = 1; piece <= pieces; piece++) {
            const double t = (double)piece / pieces;
            const point next = s->smooth
                                   ? to_pixels(p, spline(a[0], b[0], c[0], d[0], t), spline(a[1], b[1], c[1], d[1], t))
                                   : to_pixels(p, c[0], c[1]);

            draw_piece(last, next, pen, ink);
            last = next;
        }
    }
}

/* Ink to bytes: up to a quarter is lost to the grain, pixel by pixel; white paper stays exactly 0. */
static void develop(const hsgd_random *random, int64_t sample, const double ink[PIXELS], double strength,
                    uint8_t *pixels)
{
    uint64_t grain = 0;

    for (int k = 0; k < PIXELS; k++) {
        if (k % 8 == 0) {
            grain = hsgd_random_bits(random, (uint64_t)sample * DRAWS + DRAW_GRAIN + (uint64_t)k / 8);
        }
        pixels[k] = (uint8_t)(ink[k] * strength * (1.0 - (double)(grain >> k % 8 * 8 & 0xff) / 1024.0) + 0.5);
    }
}

void hsgd_digits_draw(uint64_t seed, int split, int64_t low, int64_t high, uint8_t *pixels, uint8_t *labels)
{
    const hsgd_random random = hsgd_random_stream(seed, HSGD_RANDOM_DIGITS, (uint32_t)split);
    double ink[PIXELS];

    for (int64_t i = low; i < high; i++) {
        const uint64_t first = (uint64_t)i * DRAWS;
        const uint64_t digit = hsgd_random_below(&random, first + DRAW_LABEL, HSGD_DIGITS_CLASSES);
        const uint64_t variant = hsgd_random_below(&random, first + DRAW_VARIANT, VARIANTS);
        const placement p = place(&random, i);
        const double pen = between(&random, i, DRAW_PEN, 0.6, 1.6);

        memset(ink, 0, sizeof ink);
        for (int s = 0; s < MAX_STROKES; s++) {
            if (glyphs[digit][variant][s].points > 0) {
                draw_stroke(&glyphs[digit][variant][s], &p, pen, ink);
            }
        }
        labels[i] = (uint8_t)digit;
        develop(&random, i, ink, between(&random, i, DRAW_INK, 180.0, 255.0), pixels + i * PIXELS);
    }
}
