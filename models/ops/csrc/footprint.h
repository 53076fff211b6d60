// One sampling point: its four corners, their bilinear weights, and what its gradients need.
//
// With x = loc_x * w - 1/2 and y likewise a point counts where -1 < x < w and -1 < y < h; NaN and infinity do not. A
// corner outside the map has weight zero and is clamped to a token of the point's own footprint, so it may be read.
// A point that does not count names the level's first token four times: skip it, or a NaN there would leak.
#pragma once

#ifdef __CUDACC__
#define MSDA_INLINE __host__ __device__ __forceinline__
#else
#define MSDA_INLINE inline __attribute__((always_inline))
#endif

namespace {

template <class T>
struct Footprint {
  bool in;        // whether the point counts
  bool valid[4];  // corners (y0, x0), (y0, x0 + 1), (y0 + 1, x0), (y0 + 1, x0 + 1) that lie in the map
  int token[4];   // of the frame
  T weight[4];
  T fx, fy;  // how far the point is past x0 and y0
};

template <class T>
MSDA_INLINE Footprint<T> footprint(T loc_x, T loc_y, int w, int h, int start) {
  Footprint<T> f;
  const T x = loc_x * T(w) - T(0.5), y = loc_y * T(h) - T(0.5);
  f.in = x > T(-1) && y > T(-1) && x < T(w) && y < T(h);
  // chosen before the conversion, which is undefined for NaN and for what an int cannot hold
  const T xs = f.in ? x : T(0), ys = f.in ? y : T(0);
  int x0 = int(xs), y0 = int(ys);
  x0 -= T(x0) > xs;  // towards minus infinity
  y0 -= T(y0) > ys;
  f.fx = xs - T(x0);
  f.fy = ys - T(y0);
  const bool left = f.in && x0 >= 0, right = f.in && x0 + 1 < w, top = y0 >= 0, bottom = y0 + 1 < h;
  f.valid[0] = top && left;
  f.valid[1] = top && right;
  f.valid[2] = bottom && left;
  f.valid[3] = bottom && right;
  f.weight[0] = f.valid[0] ? (1 - f.fy) * (1 - f.fx) : T(0);
  f.weight[1] = f.valid[1] ? (1 - f.fy) * f.fx : T(0);
  f.weight[2] = f.valid[2] ? f.fy * (1 - f.fx) : T(0);
  f.weight[3] = f.valid[3] ? f.fy * f.fx : T(0);
  const int column0 = x0 < 0 ? 0 : x0, column1 = x0 + 1 < w ? x0 + 1 : w - 1;
  const int row0 = y0 < 0 ? 0 : y0, row1 = y0 + 1 < h ? y0 + 1 : h - 1;
  f.token[0] = start + row0 * w + column0;
  f.token[1] = start + row0 * w + column1;
  f.token[2] = start + row1 * w + column0;
  f.token[3] = start + row1 * w + column1;
  return f;
}

}  // namespace
