/* One step of a transformer's decoder: each row by itself, every sum in an order of its own.
 *
 * Either all is float32; or what enters a product is rounded to int8 in units of its row, which are NaN where a number of
 * the row is not finite: with it all that is made of the row is NaN. What is added up from layer to layer, norms and
 * softmax are float32 in any case.
 */

#include <math.h>

#include "attend.h"
#include "functions.h"
#include "product.h"
#include "product_float.h"

#define TOGETHER 64   /* positions of a source that are multiplied at once: they stay in the cache */
#define KEPT_BLOCK 32 /* tokens that stand side by side in each layer, so that few pages of memory are read */

enum { RELU, GELU, GELU_TANH, SILU };

/* Weight (width) NULL: there is none. */
typedef struct {
    const float *weight, *bias;
    float epsilon;
} Norm;

typedef struct {
    Product own; /* x -> queries, keys and values of what is written, (heads, head) each */
    Product own_output;
    Product query;  /* x -> queries to the source */
    Product source; /* what is encoded of a position -> its keys and values */
    Product source_output;
    Product enter; /* x -> inner, or twice as many where the second half gates the first, which is activated */
    Product leave;
    Norm own_norm, source_norm, feed_norm;
} Layer;

/* `size` of x, and `width` with zeros up to a multiple of 64; as `inner` is; `head` as attend.h wants it. */
typedef struct {
    const Layer *layers;
    Product output;
    const float *embedding; /* (V, size) */
    const float *positions; /* (longest, size); or NULL */
    const float *relative;  /* (heads, longest): added to scores of what was written so many tokens ago; or NULL */
    Norm embedding_norm, final_norm;
    int64_t depth, size, width, heads, head, inner, longest;
    int64_t activation, gated;
    int64_t norm_first, centred; /* norms come before what they normalize for; they subtract the mean */
    int64_t rounded;             /* to int8 */
    float embedding_scale;
} Decoder;

typedef struct {
    char *source;                     /* (layers, heads, head_bytes) */
    int64_t positions, before, shown; /* of the source; before those whose attention is told; those */
    const char *const *kept;          /* (length + 1), each (kept_bytes) in every layer, KEPT_BLOCK of them further */
    int64_t length, token;            /* tokens that it has kept; the one that it wrote last */
    const float *shares;              /* (layers, heads) what their attention counts; NULL if nobody asks for it */
    int64_t largest;                  /* the largest is told, and not their sum */
} Row;

/* Room for what is computed on the way. */
typedef struct {
    float *x, *numbers, *attended; /* (count, width), (count, outputs), (count, heads * head) */
    float *normed;                 /* (width) */
    char *rows;                    /* (count), `stride` bytes each: what is multiplied */
    float *units, *low_units;      /* (count) what 1 stands for in a row, and in its second bytes */
    int32_t *excess;               /* (count) */
    float *weights;                /* (longest) */
    uint8_t *shares;               /* (2, longest) */
    int64_t outputs, stride;       /* outputs: most of a product of a layer */
} Room;

static inline int64_t larger(int64_t one, int64_t other)
{
    return one > other ? one : other;
}

static char *take(char **room, int64_t size)
{
    char *taken = *room;
    *room += (size + 63) / 64 * 64;
    return taken;
}

static Room lay_out(const Decoder *decoder, int64_t count, int64_t longest, char **place)
{
    const int64_t all = decoder->heads * decoder->head;
    Room room;
    room.outputs = decoder->width;
    for (int64_t number = 0; number < decoder->depth; number++) {
        const Layer *layer = decoder->layers + number;
        room.outputs = larger(larger(room.outputs, layer->own.outputs), layer->source.outputs);
        room.outputs = larger(larger(room.outputs, layer->query.outputs), layer->enter.outputs);
    }
    room.stride = larger(larger(decoder->width, decoder->layers->source.inputs), larger(all, decoder->inner));
    room.stride *= decoder->rounded ? 2 : sizeof(float);
    room.x = (float *)take(place, count * decoder->width * sizeof(float));
    room.numbers = (float *)take(place, count * room.outputs * sizeof(float));
    room.attended = (float *)take(place, count * all * sizeof(float));
    room.rows = take(place, count * room.stride);
    room.normed = (float *)take(place, decoder->width * sizeof(float));
    room.units = (float *)take(place, count * sizeof(float));
    room.low_units = (float *)take(place, count * sizeof(float));
    room.excess = (int32_t *)take(place, count * sizeof(int32_t));
    room.weights = (float *)take(place, (longest + 15) / 16 * 16 * sizeof(float));
    room.shares = (uint8_t *)take(place, (longest + 15) / 16 * 32);
    return room;
}

/* Ba et al. 2016, or without a mean Zhang & Sennrich 2019. Beyond `size` x is zero, and stays so. */
static void normalize(const Decoder *decoder, const Norm *norm, const float *x, float *out)
{
    const int64_t width = decoder->width;
    __m512 sums = _mm512_setzero_ps(), squares = sums;
    for (int64_t place = 0; place < width; place += LANES)
        sums = _mm512_add_ps(sums, _mm512_loadu_ps(x + place));
    const float share = 1.0f / (float)decoder->size;
    const __m512 mean = _mm512_set1_ps(decoder->centred ? _mm512_reduce_add_ps(sums) * share : 0.0f);
    for (int64_t place = 0; place < width; place += LANES) {
        const int64_t left = decoder->size - place;
        const __mmask16 real = left >= 16 ? 0xffff : left > 0 ? (1u << left) - 1 : 0;
        const __m512 number = _mm512_maskz_sub_ps(real, _mm512_loadu_ps(x + place), mean);
        squares = _mm512_fmadd_ps(number, number, squares);
    }
    const __m512 factor = _mm512_set1_ps(1.0f / sqrtf(_mm512_reduce_add_ps(squares) * share + norm->epsilon));
    for (int64_t place = 0; place < width; place += LANES) {
        const __m512 number = _mm512_mul_ps(_mm512_sub_ps(_mm512_loadu_ps(x + place), mean), factor);
        const __m512 bias = norm->bias ? _mm512_loadu_ps(norm->bias + place) : _mm512_setzero_ps();
        _mm512_storeu_ps(out + place, _mm512_fmadd_ps(number, _mm512_loadu_ps(norm->weight + place), bias));
    }
}

/* Numbers (inputs) to a row of bytes, (inputs) or where they are split (2, inputs), and their units. */
static void round_numbers(const Product *product, const float *numbers, int8_t *row, float *unit, float *low_unit)
{
    const int64_t inputs = product->inputs;
    int32_t excess;
    if (!product->split) {
        *unit = round_row(numbers, inputs, row);
        return;
    }
    *low_unit = split_row(numbers, inputs, row, row + inputs, &excess);
    *unit = 128.0f * *low_unit;
}

static void multiply_rounded(
    const Product *product, const int8_t *rows, int64_t count, int64_t stride, const float *units, const float *low_units,
    float *out, int64_t width, int32_t *excess)
{
    multiply(product, rows, count, stride, units, 0, out, width, excess);
    if (product->split)
        multiply(product, rows + product->inputs, count, stride, low_units, 1, out, width, excess);
}

/* Makes numbers what a product multiplies of a row. */
static void set_row(const Decoder *decoder, const Product *product, int64_t row, const float *numbers, const Room *room)
{
    char *place = room->rows + row * room->stride;
    if (decoder->rounded)
        round_numbers(product, numbers, (int8_t *)place, room->units + row, room->low_units + row);
    else
        memcpy(place, numbers, product->inputs * sizeof(float));
}

static void multiply_rows(
    const Decoder *decoder, const Product *product, int64_t count, float *out, int64_t width, const Room *room)
{
    const int64_t stride = room->stride, floats = stride / (int64_t)sizeof(float);
    const int8_t *rows = (const int8_t *)room->rows;
    if (decoder->rounded)
        multiply_rounded(product, rows, count, stride, room->units, room->low_units, out, width, room->excess);
    else
        multiply_float(product, (const float *)rows, count, floats, out, width);
}

/* A product of x, which is normalized before, if a norm is given. */
static void ask(const Decoder *decoder, const Norm *norm, const Product *product, int64_t count, const Room *room)
{
    for (int64_t row = 0; row < count; row++) {
        const float *x = room->x + row * decoder->width;
        if (norm)
            normalize(decoder, norm, x, room->normed);
        set_row(decoder, product, row, norm ? room->normed : x, room);
    }
    multiply_rows(decoder, product, count, room->numbers, room->outputs, room);
}

/* Adds a product of the rows to x, which is normalized after, if a norm is given. */
static void add_to_x(const Decoder *decoder, const Product *product, const Norm *norm, int64_t count, const Room *room)
{
    multiply_rows(decoder, product, count, room->numbers, room->outputs, room);
    for (int64_t row = 0; row < count; row++) {
        float *x = room->x + row * decoder->width;
        const float *more = room->numbers + row * room->outputs;
        for (int64_t place = 0; place < decoder->width; place += LANES)
            _mm512_storeu_ps(x + place, _mm512_add_ps(_mm512_loadu_ps(x + place), _mm512_loadu_ps(more + place)));
        if (norm)
            normalize(decoder, norm, x, x);
    }
}

/* Asks for what a row has kept before it is read: it is no stream that the processor would foresee. */
static void fetch_kept(const Row *row, int64_t place, int64_t bytes)
{
    for (int64_t token = 0; token < row->length; token++)
        for (int64_t line = 0; line < bytes; line += 64)
            _mm_prefetch(row->kept[token] + place + line, _MM_HINT_T1);
}

/* Attention of rows to what they have written, this token among it: their queries, keys and values are in `numbers`. */
static void attend_own(const Decoder *decoder, int64_t layer, const Row *rows, int64_t count, const Room *room)
{
    const int64_t heads = decoder->heads, size = decoder->head, all = heads * size;
    const int64_t bytes = kept_bytes(decoder->rounded, heads, size), place = layer * KEPT_BLOCK * bytes;
    for (int64_t row = 0; row < count; row++) {
        const float *queries = room->numbers + row * room->outputs;
        float *attended = room->attended;
        const char *const *kept = rows[row].kept;
        const int64_t tokens = rows[row].length + 1;
        if (row + 1 < count)
            fetch_kept(rows + row + 1, place, bytes);
        keep(decoder->rounded, (char *)kept[tokens - 1] + place, heads, size, queries + all, queries + 2 * all);
        for (int64_t head = 0; head < heads; head++, queries += size, attended += size) {
            const float *relative = decoder->relative ? decoder->relative + head * decoder->longest : NULL;
            if (decoder->rounded)
                attend_kept(1, kept, place, tokens, heads, head, size, queries, relative, room->weights, attended);
            else
                attend_kept(0, kept, place, tokens, heads, head, size, queries, relative, room->weights, attended);
        }
        set_row(decoder, &decoder->layers[layer].own_output, row, room->attended, room);
    }
}

/* Enters the weights of one head into the attention of a row, which is as long. */
static void add_weights(const Row *row, float share, const float *weights, float *attention)
{
    for (int64_t place = 0; place < row->positions; place++) {
        const float weight = share * weights[place];
        if (!row->largest)
            attention[place] += weight;
        else if (!(weight <= attention[place])) /* NaN enters */
            attention[place] = weight;
    }
}

/* What is told of the attention of a row: its source, without what was added to that. The largest become shares again. */
static void show(const Row *row, float *attention, int64_t columns)
{
    float sum = 0.0f;
    for (int64_t place = 0; place < row->positions; place++)
        sum += attention[place];
    for (int64_t place = 0; place < row->shown; place++)
        attention[place] = row->largest ? attention[row->before + place] / sum : attention[row->before + place];
    memset(attention + row->shown, 0, (columns - row->shown) * sizeof(float));
}

/* Attention of rows to their sources: head by head, so that what rows of one source read stays in the cache. */
static void attend_sources(
    const Decoder *decoder, int64_t layer, const Row *rows, int64_t count, float *attention, int64_t columns,
    const Room *room)
{
    const int64_t heads = decoder->heads, size = decoder->head, all = heads * size;
    for (int64_t first = 0, last; first < count; first = last) {
        const int64_t positions = rows[first].positions, width = (positions + 15) / 16 * 16;
        for (last = first + 1; last < count && rows[last].source == rows[first].source;)
            last++;
        for (int64_t number = layer * heads; number < (layer + 1) * heads; number++) {
            char *place = rows[first].source + number * head_bytes(decoder->rounded, size, width);
            const Head head = head_at(place, size, width);
            for (int64_t row = first; row < last; row++) {
                const float *query = room->numbers + row * room->outputs + number % heads * size;
                float *attended = room->attended + row * all + number % heads * size;
                if (decoder->rounded)
                    attend_rounded(&head, size, positions, query, room->weights, room->shares, attended);
                else
                    attend_float((const float *)place, size, positions, query, room->weights, attended);
                if (rows[row].shares && rows[row].shares[number] != 0.0f)
                    add_weights(rows + row, rows[row].shares[number], room->weights, attention + row * columns);
            }
        }
    }
    for (int64_t row = 0; row < count; row++)
        set_row(decoder, &decoder->layers[layer].source_output, row, room->attended + row * all, room);
}

static inline __m512 activate(int64_t activation, __m512 x)
{
    const __m512 half = _mm512_set1_ps(0.5f), one = _mm512_set1_ps(1.0f);
    if (activation == RELU)
        return _mm512_max_ps(_mm512_setzero_ps(), x); /* in this order NaN stays NaN */
    if (activation == SILU)
        return _mm512_mul_ps(x, sigmoid(x));
    if (activation == GELU) {
        const __m512 share = error_function(_mm512_mul_ps(x, _mm512_set1_ps(0.70710678f)));
        return _mm512_mul_ps(_mm512_mul_ps(half, x), _mm512_add_ps(one, share));
    }
    const __m512 cube = _mm512_mul_ps(_mm512_mul_ps(x, x), _mm512_set1_ps(0.044715f));
    const __m512 inner = _mm512_mul_ps(_mm512_fmadd_ps(cube, x, x), _mm512_set1_ps(0.79788456f));
    return _mm512_mul_ps(_mm512_mul_ps(half, x), _mm512_add_ps(one, hyperbolic_tangent(inner)));
}

/* Hendrycks & Gimpel 2016, and others; gated as Shazeer 2020: of what is in `numbers`. */
static void activate_rows(const Decoder *decoder, const Product *leave, int64_t count, const Room *room)
{
    for (int64_t row = 0; row < count; row++) {
        float *numbers = room->numbers + row * room->outputs;
        for (int64_t place = 0; place < decoder->inner; place += LANES) {
            __m512 x = activate(decoder->activation, _mm512_loadu_ps(numbers + place));
            if (decoder->gated)
                x = _mm512_mul_ps(x, _mm512_loadu_ps(numbers + decoder->inner + place));
            _mm512_storeu_ps(numbers + place, x);
        }
        set_row(decoder, leave, row, numbers, room);
    }
}

static void embed(const Decoder *decoder, const Row *row, float *x)
{
    const int64_t size = decoder->size;
    const float *embedding = decoder->embedding + row->token * size;
    for (int64_t place = 0; place < size; place++)
        x[place] = embedding[place] * decoder->embedding_scale;
    for (int64_t place = 0; decoder->positions && place < size; place++)
        x[place] += decoder->positions[row->length * size + place];
    memset(x + size, 0, (decoder->width - size) * sizeof(float));
    if (decoder->embedding_norm.weight)
        normalize(decoder, &decoder->embedding_norm, x, x);
}

/* Bytes that `precis_decode` needs beside its results for so many rows, whose sources and summaries have `longest`
 * positions at most; and `precis_read` for any. */
int64_t precis_decode_room(const Decoder *decoder, int64_t count, int64_t longest)
{
    char *end = NULL;
    lay_out(decoder, larger(count, TOGETHER), longest, &end);
    return end - (char *)NULL;
}

/* Bytes that a source of so many positions takes. */
int64_t precis_source_bytes(const Decoder *decoder, int64_t positions)
{
    const int64_t width = (positions + 15) / 16 * 16;
    return decoder->depth * decoder->heads * head_bytes(decoder->rounded, decoder->head, width);
}

/* Bytes that a token takes in one layer. */
int64_t precis_kept_bytes(const Decoder *decoder)
{
    return kept_bytes(decoder->rounded, decoder->heads, decoder->head);
}

/* What is encoded of a source (positions, inputs of `source`) -> keys and values of all layers, in `read`, which is zero. */
void precis_read(const Decoder *decoder, const float *encoded, int64_t positions, char *read, char *place)
{
    const Room room = lay_out(decoder, TOGETHER, 0, &place);
    const int64_t heads = decoder->heads, size = decoder->head, width = (positions + 15) / 16 * 16;
    const int64_t bytes = head_bytes(decoder->rounded, size, width);
    for (int64_t start = 0; start < positions; start += TOGETHER) {
        const int64_t count = positions - start < TOGETHER ? positions - start : TOGETHER;
        for (int64_t number = 0; number < decoder->depth * heads; number++) {
            const Product *source = &decoder->layers[number / heads].source;
            const Head head = head_at(read + number * bytes, size, width);
            for (int64_t row = 0; number == 0 && row < count; row++)
                set_row(decoder, source, row, encoded + (start + row) * source->inputs, &room);
            if (number % heads == 0)
                multiply_rows(decoder, source, count, room.numbers, room.outputs, &room);
            for (int64_t row = 0; row < count; row++) {
                const float *key = room.numbers + row * room.outputs + number % heads * size, *value = key + heads * size;
                if (decoder->rounded)
                    enter_rounded(&head, size, start + row, key, value);
                else
                    enter_float((float *)(read + number * bytes), size, width, start + row, key, value);
            }
        }
    }
}

/* Advances rows (count) by the tokens that they wrote last.
 *
 * log_probabilities (count, outputs); normalizers (count), which were taken off the logits; attention (count, columns): zero
 * where a row does not ask for it, and beyond what is told of it; columns: as many as any source has positions. place: see
 * precis_decode_room. */
void precis_decode(
    const Decoder *decoder, const Row *rows, int64_t count, int64_t longest, float *log_probabilities,
    float *normalizers, float *attention, int64_t columns, char *place)
{
    const Room room = lay_out(decoder, count, longest, &place);
    const int64_t outputs = decoder->output.outputs;
    memset(attention, 0, count * columns * sizeof(float));
    for (int64_t row = 0; row < count; row++)
        embed(decoder, rows + row, room.x + row * decoder->width);
    for (int64_t number = 0; number < decoder->depth; number++) {
        const Layer *layer = decoder->layers + number;
        const Norm *const norms[] = {&layer->own_norm, &layer->source_norm, &layer->feed_norm};
        const Norm *before[3] = {NULL}, *after[3] = {NULL};
        memcpy(decoder->norm_first ? before : after, norms, sizeof norms);
        ask(decoder, before[0], &layer->own, count, &room);
        attend_own(decoder, number, rows, count, &room);
        add_to_x(decoder, &layer->own_output, after[0], count, &room);
        ask(decoder, before[1], &layer->query, count, &room);
        attend_sources(decoder, number, rows, count, attention, columns, &room);
        add_to_x(decoder, &layer->source_output, after[1], count, &room);
        ask(decoder, before[2], &layer->enter, count, &room);
        activate_rows(decoder, &layer->leave, count, &room);
        add_to_x(decoder, &layer->leave, after[2], count, &room);
    }
    for (int64_t row = 0; row < count; row++) {
        float *x = room.x + row * decoder->width;
        if (decoder->final_norm.weight)
            normalize(decoder, &decoder->final_norm, x, x);
        set_row(decoder, &decoder->output, row, x, &room);
    }
    multiply_rows(decoder, &decoder->output, count, log_probabilities, outputs, &room);
    for (int64_t row = 0; row < count; row++) {
        normalizers[row] = log_softmax(log_probabilities + row * outputs, outputs, 0.0f);
        if (rows[row].shares)
            show(rows + row, attention + row * columns, columns);
    }
}

/* Products by themselves: rows (count, inputs) -> out (count, outputs). */
void precis_multiply_float(const Product *product, int64_t count, const float *rows, float *out)
{
    multiply_float(product, rows, count, product->inputs, out, product->outputs);
}

/* Rows are rounded first, each by itself. Room: bytes (count, 2, inputs), units (2, count), excess (count). */
void precis_multiply_rounded(
    const Product *product, int64_t count, const float *rows, float *out, int8_t *bytes, float *units, int32_t *excess)
{
    const int64_t inputs = product->inputs, stride = 2 * inputs;
    for (int64_t row = 0; row < count; row++)
        round_numbers(product, rows + row * inputs, bytes + row * stride, units + row, units + count + row);
    multiply_rounded(product, bytes, count, stride, units, units + count, out, product->outputs, excess);
}
