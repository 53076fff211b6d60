// The float32 kernels in explicit vectors, for one head: its tokens are rows of `stride` floats, packed or in place.
// Included by cpu_isa.cpp in its namespace.
#pragma once

#include "cpu_vectors.h"

// Per point of a query, padded to whole vectors with points that count nowhere.
struct Points {
  int count, padded;
  alignas(64) float w[kMaxPoints], h[kMaxPoints];
  alignas(64) int32_t columns[kMaxPoints], rows[kMaxPoints], start[kMaxPoints];
};

inline Points points_of(const Problem& p) {
  Points points = {};
  int i = 0, start = 0;
  for (int64_t level = 0; level < p.L; ++level) {
    const int h = int(p.shapes[2 * level]), w = int(p.shapes[2 * level + 1]);
    for (int64_t n = 0; n < p.P; ++n, ++i) {
      points.w[i] = float(w), points.h[i] = float(h);
      points.columns[i] = w, points.rows[i] = h, points.start[i] = start;
    }
    start += h * w;
  }
  points.count = i;
  points.padded = (i + VW - 1) / VW * VW;
  for (; i < points.padded; ++i) points.w[i] = points.h[i] = -1, points.columns[i] = points.rows[i] = 1;
  return points;
}

// Footprints of all points of one query (footprint.h has the definition in scalars).
struct Footprints {
  alignas(64) int32_t in[kMaxPoints], valid[4][kMaxPoints];
  alignas(64) int32_t at[4][kMaxPoints];  // first float of the corner's row
  alignas(64) float weight[4][kMaxPoints], share[4][kMaxPoints];  // share = attn * weight
  alignas(64) float fx[kMaxPoints], fy[kMaxPoints];
};

template <bool gradients>
inline void footprints(const float* loc, const float* attn, const Points& points, int32_t stride, Footprints& to) {
  for (int i = 0; i < points.padded; i += VW) {
    const vf pairs0 = load(loc + 2 * i), pairs1 = load(loc + 2 * i + VW), a = load(attn + i);
    const vf w = load(points.w + i), h = load(points.h + i);
    const vi columns = load(points.columns + i), rows = load(points.rows + i);
    const vf x = first_of_pairs(pairs0, pairs1) * w - .5f, y = second_of_pairs(pairs0, pairs1) * h - .5f;
    const vi in = (x > -1.f) & (y > -1.f) & (x < w) & (y < h);
    const vf xs = choose(in, x, vf{}), ys = choose(in, y, vf{});
    vi x0 = __builtin_convertvector(xs, vi), y0 = __builtin_convertvector(ys, vi);
    x0 += __builtin_convertvector(x0, vf) > xs;  // true is -1: towards minus infinity
    y0 += __builtin_convertvector(y0, vf) > ys;
    const vf fx = xs - __builtin_convertvector(x0, vf), fy = ys - __builtin_convertvector(y0, vf);
    const vi left = in & (x0 >= 0), right = in & (x0 + 1 < columns), top = y0 >= 0, bottom = y0 + 1 < rows;
    const vi valid[4] = {top & left, top & right, bottom & left, bottom & right};
    const vf weight[4] = {(1.f - fy) * (1.f - fx), (1.f - fy) * fx, fy * (1.f - fx), fy * fx};
    const vi column[2] = {choose(x0 < 0, vi{}, x0), choose(x0 + 1 < columns, x0 + 1, columns - 1)};
    const vi row[2] = {choose(y0 < 0, vi{}, y0), choose(y0 + 1 < rows, y0 + 1, rows - 1)};
    store(to.in + i, in);
    for (int k = 0; k < 4; ++k) {
      const vf inside = choose(valid[k], weight[k], vf{});
      store(to.at[k] + i, (load(points.start + i) + row[k / 2] * columns + column[k % 2]) * stride);
      store(to.share[k] + i, a * inside);
      if (gradients) {
        store(to.valid[k] + i, valid[k]);
        store(to.weight[k] + i, inside);
      }
    }
    if (gradients) {
      store(to.fx + i, fx);
      store(to.fy + i, fy);
    }
  }
}

// NV vectors of channels: the sum over points. Several sums per channel hide the latency of the additions.
template <int NV>
inline void gather(const float* tokens, const Footprints& f, int count, float* out) {
  constexpr int chains = NV >= 8 ? 1 : NV == 4 ? 2 : 4;
  vf sum[chains][NV] = {};
  for (int i = 0; i < count; ++i) {
    if (!f.in[i]) continue;
    for (int k = 0; k < 4; ++k) {
      const float* token = tokens + f.at[k][i];
      const float share = f.share[k][i];
      for (int v = 0; v < NV; ++v) sum[k % chains][v] += share * load(token + v * VW);
    }
  }
  for (int v = 0; v < NV; ++v) {
    if (chains == 4) sum[0][v] = (sum[0][v] + sum[1][v]) + (sum[2 % chains][v] + sum[3 % chains][v]);
    if (chains == 2) sum[0][v] += sum[1 % chains][v];
    store(out + v * VW, sum[0][v]);
  }
}

// Floats for a corner's dot products: not a multiple of 4 KB, so that a load never waits for another corner's store.
constexpr int kDots = kMaxPoints * VW + 16;

// NV vectors of channels: adds to the gradients of the corners, and to `dots`, per corner and point a vector whose
// sum is <grad_out, token>.
template <int NV>
inline void scatter(const float* tokens, float* grads, const Footprints& f, int count, const float* grad_out,
                    float (*dots)[kDots], bool first) {
  vf g[NV];
  for (int v = 0; v < NV; ++v) g[v] = load(grad_out + v * VW);
  for (int i = 0; i < count; ++i) {
    if (!f.in[i]) continue;
    for (int k = 0; k < 4; ++k) {
      const float* token = tokens + f.at[k][i];
      float* grad = grads + f.at[k][i];
      const float share = f.share[k][i];
      vf dot = first ? vf{} : load(dots[k] + i * VW);
      for (int v = 0; v < NV; ++v) dot += g[v] * load(token + v * VW);
      for (int v = 0; v < NV; ++v) store(grad + v * VW, load(grad + v * VW) + share * g[v]);
      store(dots[k] + i * VW, dot);
    }
  }
}

// Gradients of the locations and the attention of one query from the dot products of its corners.
inline void point_gradients(const Footprints& f, const Points& points, const float* attn,
                            const float (*dots)[kDots], float* grad_loc, float* grad_attn) {
  for (int i = 0; i < points.padded; i += VW) {
    vf dot[4], of_attn = {};
    for (int k = 0; k < 4; ++k) {
      // chosen, not multiplied: what lies there for a corner outside is none of this point's business
      dot[k] = choose(load(f.valid[k] + i), row_sums(dots[k] + i * VW), vf{});
      of_attn += load(f.weight[k] + i) * dot[k];
    }
    const vf fx = load(f.fx + i), fy = load(f.fy + i), a = load(attn + i);
    const vf down = (1.f - fy) * (dot[1] - dot[0]) + fy * (dot[3] - dot[2]);
    const vf across = (1.f - fx) * (dot[2] - dot[0]) + fx * (dot[3] - dot[1]);
    const vi in = load(f.in + i);
    const vf of_x = choose(in, a * load(points.w + i) * down, vf{});
    const vf of_y = choose(in, a * load(points.h + i) * across, vf{});
    store(grad_attn + i, of_attn);
    store(grad_loc + 2 * i, front_pairs(of_x, of_y));
    store(grad_loc + 2 * i + VW, back_pairs(of_x, of_y));
  }
}

// Where one head's rows are.
struct Head {
  const float* tokens;  // [S] rows of `stride` floats, `vectors` * VW of them channels, zeros after the D-th
  float* grads;         // likewise
  int32_t stride;
  int vectors;
  float* row;  // vectors * VW floats of scratch
  int64_t n, h;
};

constexpr int64_t kAhead = 4;  // queries whose inputs are fetched early: they lie H rows apart

inline void fetch(const void* from, int64_t bytes) {
  for (int64_t line = 0; line < bytes; line += 64) __builtin_prefetch((const char*)from + line);
}

// The inputs of one query's points, copied where they would be read past their end.
struct Query {
  alignas(64) float loc_copy[2 * kMaxPoints], attn_copy[kMaxPoints];
  const float *loc, *attn;

  inline void read(const Problem& p, const Points& points, int64_t row) {
    loc = (const float*)p.loc + row * points.count * 2;
    attn = (const float*)p.attn + row * points.count;
    fetch(loc + kAhead * p.H * points.count * 2, points.count * 8);
    fetch(attn + kAhead * p.H * points.count, points.count * 4);
    if (points.count == points.padded) return;
    __builtin_memcpy(loc_copy, loc, points.count * 8);
    __builtin_memcpy(attn_copy, attn, points.count * 4);
    loc = loc_copy, attn = attn_copy;
  }
};

template <int NV, class T>
void forward_queries(const Problem& p, const Points& points, const Head& head, int64_t first, int64_t last) {
  Footprints f;
  Query query = {};
  const bool direct = sizeof(T) == 4 && head.vectors * VW == p.D;
  for (int64_t q = first; q < last; ++q) {
    const int64_t row = (head.n * p.Q + q) * p.H + head.h;
    query.read(p, points, row);
    footprints<false>(query.loc, query.attn, points, head.stride, f);
    T* out = (T*)p.out + row * p.D;
    float* to = direct ? (float*)out : head.row;
    for (int v = 0; v < head.vectors; v += NV) gather<NV>(head.tokens + v * VW, f, points.count, to + v * VW);
    if (!direct) store_row(to, out, p.D);
  }
}

template <int NV, class T>
void backward_queries(const Problem& p, const Points& points, const Head& head) {
  Footprints f;
  Query query = {};
  alignas(64) float dots[4][kDots] = {};
  alignas(64) float loc_copy[2 * kMaxPoints], attn_copy[kMaxPoints];
  const bool whole = points.count == points.padded, direct = sizeof(T) == 4 && head.vectors * VW == p.D;
  for (int64_t q = 0; q < p.Q; ++q) {
    const int64_t row = (head.n * p.Q + q) * p.H + head.h;
    query.read(p, points, row);
    const T* grad_out = (const T*)p.grad_out + row * p.D;
    fetch(grad_out + kAhead * p.H * p.D, p.D * sizeof(T));
    if (!direct) load_row(grad_out, head.row, p.D);  // the rest of the scratch row is zero
    const float* g = direct ? (const float*)grad_out : head.row;
    footprints<true>(query.loc, query.attn, points, head.stride, f);
    for (int v = 0; v < head.vectors; v += NV)
      scatter<NV>(head.tokens + v * VW, head.grads + v * VW, f, points.count, g + v * VW, dots, v == 0);
    float* grad_loc = (float*)p.grad_loc + row * points.count * 2;
    float* grad_attn = (float*)p.grad_attn + row * points.count;
    point_gradients(f, points, query.attn, dots, whole ? grad_loc : loc_copy, whole ? grad_attn : attn_copy);
    if (whole) continue;
    __builtin_memcpy(grad_loc, loc_copy, points.count * 8);
    __builtin_memcpy(grad_attn, attn_copy, points.count * 4);
  }
}
