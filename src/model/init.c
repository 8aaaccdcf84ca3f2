/* src/model/init.c - the seeded initial weights. */
#include "base/random.h"
#include "model/layers.h"
#include <math.h>

/* Uniform in [-bound, bound), rounded to float so that single and double precision start from the same point. */
static void draw(uint64_t seed, uint32_t stream, double bound, int64_t count, double *out)
{
    const hsgd_random r = hsgd_random_stream(seed, HSGD_RANDOM_INIT, stream);

    for (int64_t i = 0; i < count; i++) {
        out[i] = (float)(bound * (2.0 * hsgd_random_uniform(&r, (uint64_t)i) - 1.0));
    }
}

void hsgd_network_init(const hsgd_network *network, uint64_t seed, double *params)
{
    uint32_t number = 0; /* counts layers with parameters: a pool put in between changes no draw */

    for (int64_t l = 0; l < network->count; l++) {
        const hsgd_layer *layer = &network->layers[l];

        if (layer->weight_count > 0) {
            const int64_t fan_in = layer->weight_count / layer->bias_count;
            const double bound = 1.0 / sqrt((double)fan_in);

            draw(seed, 2 * number, bound, layer->weight_count, params + layer->weight);
            draw(seed, 2 * number + 1, bound, layer->bias_count, params + layer->bias);
            number++;
        }
    }
}
