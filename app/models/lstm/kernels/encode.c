/* The encoder in int8: sources of different lengths, standing end to end, of which no padding is computed.
 *
 * The longest source comes first: those that go on at a step are then its first rows. What is encoded lies within -1 and
 * 1, and is rounded at UNIT. A number that is NaN makes the unit of its position NaN, and with it all that is computed
 * of that position and of those that the recurrence reaches after it.
 *
 * Shapes: B sources, N positions of all of them, E embedding, U units of a direction, H = 2 U, K key, R relevance; all
 * but B and N with zeros up to a multiple of LANES.
 */

#include <math.h>

#include "functions.h"
#include "product.h"

#define LANES 16
#define UNIT 126.0f   /* int8 for 1 */
#define TOGETHER 64   /* positions that are projected, or multiplied before a recurrence, at once: they stay in the cache */
#define COMPARED 9    /* vectors that tell whether another text begins, as in network.py */
#define PHRASE 8      /* tokens, network.WINDOWS */
#define SENTENCE 24
#define SMALLEST 1e-30f

/* One direction of a layer. Outputs are the input, forget, cell and output gates of sixteen units, then of the next. */
typedef struct {
    Product input;     /* with the biases of both */
    Product recurrent;
} Direction;

typedef struct {
    int64_t layers, embedding, units, keys, relevance; /* E, U, K; R or 0 */
    const Direction *directions;                       /* (layers, 2): forwards and backwards */
    Product encoded, embedded; /* H, E -> K + R: of the keys, and of the relevance's tokens with their bias */
    const Product *compare;    /* (COMPARED) R -> R, the first with the bias */
    const float *begins;       /* (outputs of compare) */
    float begins_bias, compared; /* the number of R, without zeros */
    Product bridge; /* H -> 4 D */
} Encoder;

typedef struct {
    int64_t count;          /* B */
    const int64_t *lengths; /* (B), at least 1 each, the longest first */
} Batch;

/* Room for what is computed on the way. */
typedef struct {
    int64_t *first, *places;                      /* (B), (together): positions among N */
    int8_t *outputs[2];                           /* (N, H), of the layers by turns but the last */
    float *units[2];                              /* (N) what 1 stands for in `outputs` */
    int8_t *gathered, *hidden;                    /* (together, E or H), (B, U) */
    float *gathered_units, *hidden_units, *cell;  /* (together), (B), (B, U) */
    float *gates;                                 /* (together, 4 U) */
    float *projected, *tokens, *sums;             /* (TOGETHER, …), (S, R), (S + 1, R) */
    float *vectors;                               /* (R) */
    int8_t *seen;                                 /* (COMPARED, TOGETHER, R) */
    float *seen_units;                            /* (COMPARED, TOGETHER) */
    int8_t *ends;                                 /* (B, H) */
    int32_t *excess;                              /* (together) */
    int64_t together;
} Scratch;

static int64_t most(int64_t one, int64_t other)
{
    return one > other ? one : other;
}

/* The next `size` bytes, on a line of the cache. */
static void *take(char **room, int64_t size)
{
    char *taken = *room;
    *room += (size + 63) / 64 * 64;
    return taken;
}

static Scratch lay_out(const Encoder *encoder, const Batch *batch, char **room)
{
    int64_t count = 0;
    for (int64_t source = 0; source < batch->count; source++)
        count += batch->lengths[source];
    const int64_t longest = batch->lengths[0], wide = 2 * encoder->units, relevance = encoder->relevance;
    const int64_t together = most(batch->count, TOGETHER), compared = COMPARED * TOGETHER;
    const int64_t outputs = relevance ? most(encoder->encoded.outputs, encoder->compare->outputs) : encoder->encoded.outputs;
    Scratch scratch;
    scratch.together = together;
    scratch.first = take(room, batch->count * sizeof(int64_t));
    scratch.places = take(room, together * sizeof(int64_t));
    for (int turn = 0; turn < 2; turn++) {
        scratch.outputs[turn] = take(room, encoder->layers > 1 ? count * wide : 0);
        scratch.units[turn] = take(room, count * sizeof(float));
    }
    scratch.gathered = take(room, together * most(encoder->embedding, wide));
    scratch.hidden = take(room, batch->count * encoder->units);
    scratch.gathered_units = take(room, together * sizeof(float));
    scratch.hidden_units = take(room, batch->count * sizeof(float));
    scratch.cell = take(room, batch->count * encoder->units * sizeof(float));
    scratch.gates = take(room, together * 4 * encoder->units * sizeof(float));
    scratch.projected = take(room, TOGETHER * outputs * sizeof(float));
    scratch.tokens = take(room, longest * relevance * sizeof(float));
    scratch.sums = take(room, (longest + 1) * relevance * sizeof(float));
    scratch.vectors = take(room, COMPARED * relevance * sizeof(float));
    scratch.seen = take(room, compared * relevance);
    scratch.seen_units = take(room, compared * sizeof(float));
    scratch.ends = take(room, batch->count * wide);
    scratch.excess = take(room, together * sizeof(int32_t));
    return scratch;
}

static void store_bytes(int8_t *place, __m512i numbers)
{
    _mm_storeu_si128((__m128i *)place, _mm512_cvtsepi32_epi8(numbers));
}

/* `size` numbers as int8, scaled by the largest: what 1 stands for; none if one of them is none. */
static float round_row(const float *row, int64_t size, int8_t *out)
{
    __m512 largest = _mm512_set1_ps(SMALLEST);
    __mmask16 none = 0;
    for (int64_t place = 0; place < size; place += LANES) {
        const __m512 numbers = _mm512_loadu_ps(row + place);
        largest = _mm512_max_ps(largest, _mm512_abs_ps(numbers));
        none |= _mm512_cmp_ps_mask(numbers, numbers, _CMP_UNORD_Q);
    }
    const float bound = _mm512_reduce_max_ps(largest);
    const __m512 factor = _mm512_set1_ps(127.0f / bound);
    for (int64_t place = 0; place < size; place += LANES)
        store_bytes(out + place, _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_loadu_ps(row + place), factor)));
    return none ? NAN : bound / 127.0f;
}

/* One row of a recurrence by one step; what 1 stands for in its new state. */
static float turn(const float *gates, int64_t units, float *cell, int8_t *hidden, int8_t *output)
{
    __mmask16 none = 0;
    for (int64_t unit = 0; unit < units; unit += LANES, gates += 4 * LANES) {
        const __m512 input = sigmoid(_mm512_loadu_ps(gates)), forget = sigmoid(_mm512_loadu_ps(gates + LANES));
        const __m512 written = hyperbolic_tangent(_mm512_loadu_ps(gates + 2 * LANES));
        const __m512 shown = sigmoid(_mm512_loadu_ps(gates + 3 * LANES));
        const __m512 kept = _mm512_fmadd_ps(forget, _mm512_loadu_ps(cell + unit), _mm512_mul_ps(input, written));
        _mm512_storeu_ps(cell + unit, kept);
        const __m512 number = _mm512_mul_ps(_mm512_mul_ps(shown, hyperbolic_tangent(kept)), _mm512_set1_ps(UNIT));
        store_bytes(hidden + unit, _mm512_cvtps_epi32(number));
        none |= _mm512_cmp_ps_mask(number, number, _CMP_UNORD_Q);
    }
    memcpy(output, hidden, units);
    return none ? NAN : 1.0f / UNIT;
}

/* One direction of a layer. inputs (N, size) -> its half of outputs (N, H); a unit turns into none, or stays. */
static void recur(
    const Encoder *encoder, const Direction *direction, int backwards, const Batch *batch, const Scratch *scratch,
    const int8_t *inputs, int64_t size, const float *input_units, int8_t *outputs, float *output_units)
{
    const int64_t units = encoder->units, longest = batch->lengths[0], half = backwards ? units : 0;
    memset(scratch->hidden, 0, batch->count * units);
    memset(scratch->cell, 0, batch->count * units * sizeof(float));
    for (int64_t row = 0; row < batch->count; row++)
        scratch->hidden_units[row] = 1.0f / UNIT;
    int64_t rows = batch->count, coming = rows;
    for (int64_t step = 0, stop = 0; step < longest;) {
        int64_t count = 0;
        for (; stop < longest && count + coming <= scratch->together; stop++) {
            while (batch->lengths[coming - 1] <= stop)
                coming--;
            for (int64_t row = 0; row < coming; row++, count++) {
                const int64_t place = scratch->first[row] + (backwards ? batch->lengths[row] - 1 - stop : stop);
                scratch->places[count] = place;
                scratch->gathered_units[count] = input_units[place];
                memcpy(scratch->gathered + count * size, inputs + place * size, size);
            }
        }
        multiply(
            &direction->input, scratch->gathered, count, size, scratch->gathered_units, 0, scratch->gates, 4 * units,
            scratch->excess);
        float *gates = scratch->gates;
        const int64_t *place = scratch->places;
        for (; step < stop; step++) {
            while (batch->lengths[rows - 1] <= step)
                rows--;
            multiply(
                &direction->recurrent, scratch->hidden, rows, units, scratch->hidden_units, 1, gates, 4 * units,
                scratch->excess);
            for (int64_t row = 0; row < rows; row++, place++, gates += 4 * units) {
                const float unit = turn(
                    gates, units, scratch->cell + row * units, scratch->hidden + row * units,
                    outputs + *place * 2 * units + half);
                scratch->hidden_units[row] = unit;
                output_units[*place] = isnan(unit) ? unit : output_units[*place];
            }
        }
    }
}

/* Mean of `size` numbers of R over the positions from `from` to before `to`; the sum is divided by `share`. */
static void mean(const float *sums, int64_t size, int64_t from, int64_t to, int64_t share, float *out)
{
    const __m512 factor = _mm512_set1_ps(1.0f / (float)most(share, 1));
    for (int64_t place = 0; place < size; place += LANES) {
        const __m512 end = _mm512_loadu_ps(sums + to * size + place), start = _mm512_loadu_ps(sums + from * size + place);
        _mm512_storeu_ps(out + place, _mm512_mul_ps(_mm512_sub_ps(end, start), factor));
    }
}

/* What tells whether another text begins at a position of `length`, as network.Relevance: (COMPARED, R). */
static void compare(const Encoder *encoder, const Scratch *scratch, int64_t position, int64_t length, float *out)
{
    const int64_t size = encoder->relevance, row = size * sizeof(float);
    const int64_t phrase = position < PHRASE ? 0 : position - PHRASE, next = position + PHRASE;
    const int64_t sentence = position < SENTENCE ? 0 : position - SENTENCE, later = position + SENTENCE;
    float *after = out + 4 * size, *same = out + 5 * size;
    mean(scratch->sums, size, phrase, position, position - phrase, out);
    mean(scratch->sums, size, sentence, position, position - sentence, out + size);
    mean(scratch->sums, size, 0, position, position, out + 2 * size);
    mean(scratch->sums, size, position, next < length ? next : length, PHRASE, out + 3 * size);
    mean(scratch->sums, size, position, later < length ? later : length, SENTENCE, after);
    for (int64_t place = 0; place < size; place += LANES) {
        const __m512 coming = _mm512_mul_ps(_mm512_loadu_ps(after + place), _mm512_set1_ps(encoder->compared));
        _mm512_storeu_ps(same + place, _mm512_mul_ps(_mm512_loadu_ps(out + size + place), coming));
        _mm512_storeu_ps(same + size + place, _mm512_mul_ps(_mm512_loadu_ps(out + 2 * size + place), coming));
    }
    memcpy(out + 7 * size, scratch->tokens + (position - 1) * size, row);
    memcpy(out + 8 * size, scratch->tokens + position * size, row);
}

/* Logit of another text beginning, from what `compare` became: (outputs of compare). */
static float begins(const Encoder *encoder, const float *compared)
{
    __m512 sum = _mm512_setzero_ps();
    for (int64_t place = 0; place < encoder->compare->outputs; place += LANES) {
        const __m512 positive = _mm512_max_ps(_mm512_setzero_ps(), _mm512_loadu_ps(compared + place)); /* NaN stays */
        sum = _mm512_fmadd_ps(positive, _mm512_loadu_ps(encoder->begins + place), sum);
    }
    return _mm512_reduce_add_ps(sum) + encoder->begins_bias;
}

/* Of one source, whose tokens and their sums are in `scratch`: prior (length). */
static void survive(const Encoder *encoder, const Scratch *scratch, int64_t length, float *prior)
{
    const int64_t size = encoder->relevance, width = encoder->compare->outputs;
    prior[0] = 0.0f;
    for (int64_t start = 1; start < length; start += TOGETHER) {
        const int64_t count = length - start < TOGETHER ? length - start : TOGETHER;
        for (int64_t row = 0; row < count; row++) {
            compare(encoder, scratch, start + row, length, scratch->vectors);
            for (int64_t number = 0; number < COMPARED; number++) {
                const int64_t own = number * TOGETHER + row;
                scratch->seen_units[own] = round_row(scratch->vectors + number * size, size, scratch->seen + own * size);
            }
        }
        for (int64_t number = 0; number < COMPARED; number++)
            multiply(
                encoder->compare + number, scratch->seen + number * TOGETHER * size, count, size,
                scratch->seen_units + number * TOGETHER, number > 0, scratch->projected, width, scratch->excess);
        for (int64_t row = 0; row < count; row++) {
            const float logit = begins(encoder, scratch->projected + row * width);
            const float another = (logit < 0.0f ? 0.0f : logit) + log1pf(expf(-fabsf(logit)));
            prior[start + row] = prior[start + row - 1] - another; /* log of 1 - P = log sigmoid(-logit) */
        }
    }
}

/* Keys of one source, and the small vectors of its tokens with their running sums. */
static void project(
    const Encoder *encoder, const Scratch *scratch, int64_t length, const int8_t *values, const float *units,
    const int8_t *embedded, const float *embedded_units, int8_t *keys, float *scales)
{
    const int64_t wide = 2 * encoder->units, size = encoder->relevance, width = encoder->encoded.outputs;
    float *tokens = scratch->tokens, *sums = scratch->sums;
    memset(sums, 0, size * sizeof(float));
    for (int64_t start = 0; start < length; start += TOGETHER) {
        const int64_t count = length - start < TOGETHER ? length - start : TOGETHER;
        float *row = scratch->projected;
        multiply(
            &encoder->embedded, embedded + start * encoder->embedding, count, encoder->embedding, embedded_units + start, 0,
            row, width, scratch->excess);
        multiply(&encoder->encoded, values + start * wide, count, wide, units + start, 1, row, width, scratch->excess);
        for (int64_t place = start; place < start + count; place++, row += width, tokens += size, sums += size) {
            scales[place] = round_row(row, encoder->keys, keys + place * encoder->keys);
            for (int64_t unit = 0; unit < size; unit += LANES) {
                const __m512 token = hyperbolic_tangent(_mm512_loadu_ps(row + encoder->keys + unit));
                _mm512_storeu_ps(tokens + unit, token);
                _mm512_storeu_ps(sums + size + unit, _mm512_add_ps(_mm512_loadu_ps(sums + unit), token));
            }
        }
    }
}

/* Where the decoder starts, of the last outputs of both directions: start (B, 4 D), tanh of the bridge. */
static void begin(
    const Encoder *encoder, const Batch *batch, const Scratch *scratch, const int8_t *values, const float *units, float *start)
{
    const int64_t half = encoder->units, width = encoder->bridge.outputs;
    for (int64_t row = 0; row < batch->count; row++) {
        const int64_t first = scratch->first[row], last = first + batch->lengths[row] - 1;
        memcpy(scratch->ends + row * 2 * half, values + last * 2 * half, half);
        memcpy(scratch->ends + row * 2 * half + half, values + first * 2 * half + half, half);
        scratch->hidden_units[row] = (units[first] + units[last]) / 2;
    }
    multiply(
        &encoder->bridge, scratch->ends, batch->count, 2 * half, scratch->hidden_units, 0, start, width, scratch->excess);
    for (int64_t place = 0; place < batch->count * width; place += LANES)
        _mm512_storeu_ps(start + place, hyperbolic_tangent(_mm512_loadu_ps(start + place)));
}

/* Bytes that `precis_encode` needs beside its results. */
int64_t precis_encode_room(const Encoder *encoder, const Batch *batch)
{
    char *end = NULL;
    lay_out(encoder, batch, &end);
    return end - (char *)NULL;
}

/* embedded (N, E), of which 1 stands for `embedded_units` (N) -> values (N, H) at UNIT, keys (N, K) and scales (N), prior (N),
 * start (B, 4 D up to a multiple of PANEL). */
void precis_encode(
    const Encoder *encoder, const Batch *batch, const int8_t *embedded, const float *embedded_units, char *room, int8_t *values,
    int8_t *keys, float *scales, float *prior, float *start)
{
    Scratch scratch = lay_out(encoder, batch, &room);
    int64_t count = 0, size = encoder->embedding;
    for (int64_t row = 0; row < batch->count; count += batch->lengths[row++])
        scratch.first[row] = count;
    const int8_t *inputs = embedded;
    const float *units = embedded_units;
    const int64_t wide = 2 * encoder->units;
    for (int64_t layer = 0; layer < encoder->layers; layer++) {
        int8_t *outputs = layer + 1 < encoder->layers ? scratch.outputs[layer % 2] : values;
        float *output_units = scratch.units[layer % 2];
        for (int64_t place = 0; place < count; place++)
            output_units[place] = 1.0f / UNIT;
        for (int side = 0; side < 2; side++)
            recur(
                encoder, encoder->directions + 2 * layer + side, side, batch, &scratch, inputs, size, units, outputs,
                output_units);
        inputs = outputs, size = wide, units = output_units;
    }
    begin(encoder, batch, &scratch, values, units, start);
    memset(prior, 0, count * sizeof(float));
    for (int64_t row = 0; row < batch->count; row++) {
        const int64_t first = scratch.first[row], length = batch->lengths[row];
        project(
            encoder, &scratch, length, values + first * wide, units + first, embedded + first * encoder->embedding, embedded_units + first, keys + first * encoder->keys, scales + first);
        if (encoder->relevance)
            survive(encoder, &scratch, length, prior + first);
    }
}
