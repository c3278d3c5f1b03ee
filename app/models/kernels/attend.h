/* Attention of one row and head, to the positions of its source and to what the row has written itself.
 *
 * Keys and values are float32; or int8, with a scale for each head and position, which is NaN where one of their numbers
 * is not finite. A source is read at every step by all of its rows. In int8 it is laid out for VPDPBUSD, which multiplies
 * unsigned by signed bytes and adds four by four. The other factor has sixteen bits, as two bytes: a query, and weights,
 * are off by 1 in 30,000 of their largest at most.
 *
 * Sizes: `size` of a head, a multiple of 16 of 512 at most; `width` of a source, its positions up to a multiple of 16.
 */

#ifndef PRECIS_ATTEND_H
#define PRECIS_ATTEND_H

#include <math.h>
#include <string.h>

#include "functions.h"
#include "product.h"

#define LONGEST_HEAD 512
#define SHARE 65535.0f /* the largest weight of a value */

/* What a head reads of a source in int8. In float32 it reads keys (width / 16, size, 16), then values (width, size). */
typedef struct {
    uint8_t *keys;      /* (width / 16, size / 4, 16, 4) + 128 */
    int8_t *values;     /* (width / 4, size, 4) */
    float *key_scales;  /* (width) */
    float *value_scales;
} Head;

/* Bytes of one head of a source. */
static inline int64_t head_bytes(int rounded, int64_t size, int64_t width)
{
    return 2 * width * (rounded ? size + (int64_t)sizeof(float) : size * (int64_t)sizeof(float));
}

static inline Head head_at(char *place, int64_t size, int64_t width)
{
    Head head;
    head.keys = (uint8_t *)place;
    head.values = (int8_t *)place + size * width;
    head.key_scales = (float *)(place + 2 * size * width);
    head.value_scales = head.key_scales + width;
    return head;
}

/* Writes a key and a value (size) as those of a position. */
static inline void enter_rounded(const Head *head, int64_t size, int64_t position, const float *key, const float *value)
{
    int8_t bytes[LONGEST_HEAD];
    head->key_scales[position] = round_row(key, size, bytes);
    uint8_t *four = head->keys + position / 16 * 16 * size + position % 16 * 4;
    for (int64_t place = 0; place < size; place += 4, four += 64)
        for (int part = 0; part < 4; part++)
            four[part] = (uint8_t)(bytes[place + part] + 128);
    head->value_scales[position] = round_row(value, size, bytes);
    int8_t *one = head->values + position / 4 * 4 * size + position % 4;
    for (int64_t place = 0; place < size; place++)
        one[4 * place] = bytes[place];
}

static inline void enter_float(
    float *head, int64_t size, int64_t width, int64_t position, const float *key, const float *value)
{
    float *keys = head + position / 16 * 16 * size + position % 16;
    for (int64_t place = 0; place < size; place++)
        keys[16 * place] = key[place];
    memcpy(head + (width + position) * size, value, size * sizeof(float));
}

/* Scores of the positions of a source: (width). */
static inline void score_rounded(const Head *head, int64_t size, int64_t positions, const float *query, float *scores)
{
    int8_t high[LONGEST_HEAD], low[LONGEST_HEAD];
    int32_t excess;
    const __m512 unit = _mm512_set1_ps(split_row(query, size, high, low, &excess));
    const uint8_t *keys = head->keys;
    for (int64_t position = 0; position < positions; position += 16) {
        __m512i upper[2], lower[2]; /* two of each, so that sums wait for each other less */
        for (int part = 0; part < 2; part++)
            upper[part] = lower[part] = _mm512_setzero_si512();
        for (int64_t place = 0; place < size; place += 8)
            for (int part = 0; part < 2; part++, keys += 64) {
                const __m512i key = _mm512_loadu_si512(keys);
                upper[part] = _mm512_dpbusd_epi32(upper[part], key, _mm512_set1_epi32(broadcast(high + place + 4 * part)));
                lower[part] = _mm512_dpbusd_epi32(lower[part], key, _mm512_set1_epi32(broadcast(low + place + 4 * part)));
            }
        __m512i sums = _mm512_slli_epi32(_mm512_add_epi32(upper[0], upper[1]), 7);
        sums = _mm512_add_epi32(sums, _mm512_add_epi32(lower[0], lower[1]));
        sums = _mm512_sub_epi32(sums, _mm512_set1_epi32(excess));
        const __m512 scale = _mm512_mul_ps(_mm512_loadu_ps(head->key_scales + position), unit);
        _mm512_storeu_ps(scores + position, _mm512_mul_ps(_mm512_cvtepi32_ps(sums), scale));
    }
}

/* Scores in place to weights; zero at positions beyond them, up to a multiple of 16. */
static inline void softmax_row(float *scores, int64_t positions)
{
    const int64_t width = (positions + 15) / 16 * 16;
    for (int64_t place = positions; place < width; place++)
        scores[place] = -INFINITY;
    __m512 most = _mm512_set1_ps(-INFINITY), sums = _mm512_setzero_ps();
    for (int64_t place = 0; place < width; place += LANES)
        most = _mm512_max_ps(most, _mm512_loadu_ps(scores + place));
    most = _mm512_set1_ps(_mm512_reduce_max_ps(most));
    for (int64_t place = 0; place < width; place += LANES) {
        const __m512 power = exponential(_mm512_sub_ps(_mm512_loadu_ps(scores + place), most));
        _mm512_storeu_ps(scores + place, power);
        sums = _mm512_add_ps(sums, power);
    }
    const __m512 share = _mm512_set1_ps(1.0f / _mm512_reduce_add_ps(sums));
    for (int64_t place = 0; place < width; place += LANES)
        _mm512_storeu_ps(scores + place, _mm512_mul_ps(_mm512_loadu_ps(scores + place), share));
}

/* Weights (width) times the scales of values, as 256 * high + low; what 1 stands for in them. */
static inline float split_weights(
    const float *weights, const float *scales, int64_t width, uint8_t *high, uint8_t *low)
{
    __m512 most = _mm512_set1_ps(SMALLEST), tainted = _mm512_setzero_ps();
    for (int64_t place = 0; place < width; place += LANES) {
        const __m512 weight = _mm512_mul_ps(_mm512_loadu_ps(weights + place), _mm512_loadu_ps(scales + place));
        most = _mm512_max_ps(most, weight);
        tainted = _mm512_fmadd_ps(weight, _mm512_setzero_ps(), tainted);
    }
    const float bound = _mm512_reduce_max_ps(most);
    const __m512 factor = _mm512_set1_ps(SHARE / bound);
    for (int64_t place = 0; place < width; place += LANES) {
        const __m512 weight = _mm512_mul_ps(_mm512_loadu_ps(weights + place), _mm512_loadu_ps(scales + place));
        const __m512i whole = _mm512_cvtps_epi32(_mm512_mul_ps(weight, factor));
        _mm_storeu_si128((__m128i *)(high + place), _mm512_cvtepi32_epi8(_mm512_srli_epi32(whole, 8)));
        _mm_storeu_si128((__m128i *)(low + place), _mm512_cvtepi32_epi8(whole));
    }
    return bound / SHARE + _mm512_reduce_add_ps(tainted);
}

/* `count` times sixteen numbers of the values of a source, weighted. */
static inline __attribute__((always_inline)) void weigh_rounded(
    const int count, const int8_t *values, int64_t size, int64_t width, const uint8_t *high, const uint8_t *low, float unit,
    float *out)
{
    __m512i upper[4], lower[4];
    for (int part = 0; part < count; part++)
        upper[part] = lower[part] = _mm512_setzero_si512();
    for (int64_t position = 0; position < width; position += 4, values += 4 * size) {
        const __m512i more = _mm512_set1_epi32(broadcast((const int8_t *)high + position));
        const __m512i less = _mm512_set1_epi32(broadcast((const int8_t *)low + position));
        for (int part = 0; part < count; part++) {
            const __m512i value = _mm512_loadu_si512(values + 64 * part);
            upper[part] = _mm512_dpbusd_epi32(upper[part], more, value);
            lower[part] = _mm512_dpbusd_epi32(lower[part], less, value);
        }
    }
    for (int part = 0; part < count; part++) {
        const __m512 sum = _mm512_fmadd_ps(
            _mm512_cvtepi32_ps(upper[part]), _mm512_set1_ps(256.0f), _mm512_cvtepi32_ps(lower[part]));
        _mm512_storeu_ps(out + 16 * part, _mm512_mul_ps(sum, _mm512_set1_ps(unit)));
    }
}

/* A query (size) to a source -> out (size), and weights (width). shares: room for 2 width bytes. */
static inline void attend_rounded(
    const Head *head, int64_t size, int64_t positions, const float *query, float *weights, uint8_t *shares, float *out)
{
    const int64_t width = (positions + 15) / 16 * 16;
    score_rounded(head, size, positions, query, weights);
    softmax_row(weights, positions);
    const float unit = split_weights(weights, head->value_scales, width, shares, shares + width);
    int64_t place = 0;
    for (; place + 64 <= size; place += 64)
        weigh_rounded(4, head->values + 4 * place, size, width, shares, shares + width, unit, out + place);
    for (; place < size; place += 16)
        weigh_rounded(1, head->values + 4 * place, size, width, shares, shares + width, unit, out + place);
}

static inline void score_float(const float *keys, int64_t size, int64_t positions, const float *query, float *scores)
{
    for (int64_t position = 0; position < positions; position += 16) {
        __m512 sums[4];
        for (int part = 0; part < 4; part++)
            sums[part] = _mm512_setzero_ps();
        for (int64_t place = 0; place < size; place += 4)
            for (int part = 0; part < 4; part++, keys += 16)
                sums[part] = _mm512_fmadd_ps(_mm512_loadu_ps(keys), _mm512_set1_ps(query[place + part]), sums[part]);
        const __m512 one = _mm512_add_ps(sums[0], sums[1]), other = _mm512_add_ps(sums[2], sums[3]);
        _mm512_storeu_ps(scores + position, _mm512_add_ps(one, other));
    }
}

/* `count` times sixteen numbers of values, weighted. */
static inline __attribute__((always_inline)) void weigh_float(
    const int count, const float *values, int64_t size, int64_t positions, const float *weights, float *out)
{
    __m512 sums[4];
    for (int part = 0; part < count; part++)
        sums[part] = _mm512_setzero_ps();
    for (int64_t position = 0; position < positions; position++, values += size)
        for (int part = 0; part < count; part++)
            sums[part] = _mm512_fmadd_ps(
                _mm512_loadu_ps(values + 16 * part), _mm512_set1_ps(weights[position]), sums[part]);
    for (int part = 0; part < count; part++)
        _mm512_storeu_ps(out + 16 * part, sums[part]);
}

/* The same in float32. */
static inline void attend_float(
    const float *head, int64_t size, int64_t positions, const float *query, float *weights, float *out)
{
    const float *values = head + (positions + 15) / 16 * 16 * size;
    score_float(head, size, positions, query, weights);
    softmax_row(weights, positions);
    int64_t place = 0;
    for (; place + 64 <= size; place += 64)
        weigh_float(4, values + place, size, positions, weights, out + place);
    for (; place < size; place += 16)
        weigh_float(1, values + place, size, positions, weights, out + place);
}

/* What a layer keeps of a token: keys (heads, size), values (heads, size), and in int8 their scales (heads) each. */
static inline int64_t kept_bytes(int rounded, int64_t heads, int64_t size)
{
    return head_bytes(rounded, size, heads);
}

/* keys and values: (heads, size). */
static inline void keep(int rounded, char *kept, int64_t heads, int64_t size, const float *keys, const float *values)
{
    const int64_t all = heads * size;
    if (!rounded) {
        memcpy(kept, keys, all * sizeof(float));
        memcpy(kept + all * sizeof(float), values, all * sizeof(float));
        return;
    }
    int8_t *bytes = (int8_t *)kept;
    float *scales = (float *)(kept + 2 * all);
    for (int64_t place = 0; place < all; place += size) {
        *scales++ = round_row(keys + place, size, bytes + place);
        *scales++ = round_row(values + place, size, bytes + all + place);
    }
}

/* The sixteen numbers at a place of what is kept, without their scale. */
static inline __attribute__((always_inline)) __m512 numbers_at(const int rounded, const char *kept, int64_t place)
{
    if (!rounded)
        return _mm512_loadu_ps((const float *)kept + place);
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)(kept + place))));
}

/* `count` times sixteen numbers of what is kept, weighted. */
static inline __attribute__((always_inline)) void weigh_kept(
    const int rounded, const int count, const char *const *kept, int64_t layer, int64_t place, int64_t tokens,
    const float *weights, float *out)
{
    __m512 sums[4];
    for (int part = 0; part < count; part++)
        sums[part] = _mm512_setzero_ps();
    for (int64_t token = 0; token < tokens; token++)
        for (int part = 0; part < count; part++)
            sums[part] = _mm512_fmadd_ps(
                numbers_at(rounded, kept[token] + layer, place + 16 * part), _mm512_set1_ps(weights[token]), sums[part]);
    for (int part = 0; part < count; part++)
        _mm512_storeu_ps(out + 16 * part, sums[part]);
}

/* A query (size) to `tokens` that the row has written, this one the last -> out (size). They are kept `layer` bytes after
 * where `kept` says. relative: what is added to the scores of tokens 0, 1, ... before this one; or NULL. weights: room for
 * tokens up to a multiple of 16. */
static inline __attribute__((always_inline)) void attend_kept(
    const int rounded, const char *const *kept, int64_t layer, int64_t tokens, int64_t heads, int64_t head, int64_t size,
    const float *query, const float *relative, float *weights, float *out)
{
    const int64_t all = heads * size;
#define SCALES(TOKEN) ((const float *)(kept[TOKEN] + layer + 2 * all) + 2 * head)
    for (int64_t token = 0; token < tokens; token++) {
        __m512 sum = _mm512_setzero_ps();
        for (int64_t place = 0; place < size; place += LANES) {
            const __m512 key = numbers_at(rounded, kept[token] + layer, head * size + place);
            sum = _mm512_fmadd_ps(key, _mm512_loadu_ps(query + place), sum);
        }
        const float score = _mm512_reduce_add_ps(sum) * (rounded ? SCALES(token)[0] : 1.0f);
        weights[token] = relative ? score + relative[tokens - 1 - token] : score;
    }
    softmax_row(weights, tokens);
    for (int64_t token = 0; rounded && token < tokens; token++)
        weights[token] *= SCALES(token)[1];
#undef SCALES
    int64_t place = 0;
    for (; place + 64 <= size; place += 64)
        weigh_kept(rounded, 4, kept, layer, all + head * size + place, tokens, weights, out + place);
    for (; place < size; place += 16)
        weigh_kept(rounded, 1, kept, layer, all + head * size + place, tokens, weights, out + place);
}

#endif
