// Geometry of the map: polygons with few corners, and sprites of shapes. Knows nothing of the page.

const MOST_CORNERS = 60;

// How far a point is from the line through two others.
const away = ([x, y], [x0, y0], [x1, y1]) => {
  const [dx, dy] = [x1 - x0, y1 - y0];
  const length = Math.hypot(dx, dy);
  return length ? Math.abs(dy * (x - x0) - dx * (y - y0)) / length : Math.hypot(x - x0, y - y0);
};

// The points of a path that matter at a tolerance (Douglas, Peucker 1973).
const simpler = (path, tolerance) => {
  const keep = new Set([0, path.length - 1]);
  const parts = [[0, path.length - 1]];
  while (parts.length) {
    const [start, end] = parts.pop();
    let [far, at] = [tolerance, -1];
    for (let i = start + 1; i < end; i++) {
      const gap = away(path[i], path[start], path[end]);
      if (gap > far) [far, at] = [gap, i];
    }
    if (at >= 0) {
      keep.add(at);
      parts.push([start, at], [at, end]);
    }
  }
  return path.filter((_, i) => keep.has(i));
};

// A drawn path as a polygon of at most 60 corners, in thousandths of the map.
const polygonOf = (path) => {
  let found = path;
  for (let tolerance = 0.002; found.length > MOST_CORNERS; tolerance *= 1.5) found = simpler(path, tolerance);
  const whole = found.map((point) => point.map((n) => Math.round(Math.max(0, Math.min(1, n)) * 1000) / 1000));
  return whole.filter(([x, y], i) => !i || x !== whole[i - 1][0] || y !== whole[i - 1][1]);
};

// Shapes within a circle of radius r around (0, 0); the first are those of verdicts: ● ■ ○.
const corners = (count, r, turn = 0) =>
  Array.from({ length: count }, (_, i) => {
    const angle = turn - Math.PI / 2 + (2 * Math.PI * i) / count;
    return [r * Math.cos(angle), r * Math.sin(angle)];
  });
const SHAPES = ["disc", "square", "ring", "triangle", "diamond", "plus", "down", "frame", "cross", "dot"];

const trace = (pen, shape, r) => {
  const outline = (points) => {
    pen.beginPath();
    points.forEach(([x, y], i) => (i ? pen.lineTo(x, y) : pen.moveTo(x, y)));
    pen.closePath();
  };
  const strokes = (lines) => {
    pen.beginPath();
    for (const [a, b] of lines) pen.moveTo(...a), pen.lineTo(...b);
    pen.stroke();
  };
  const d = r * 0.75;
  pen.lineWidth = Math.max(1, r * 0.45);
  switch (shape) {
    case "square":
      return outline(corners(4, r * 1.15, Math.PI / 4)), pen.fill();
    case "triangle":
      return outline(corners(3, r * 1.2)), pen.fill();
    case "down":
      return outline(corners(3, r * 1.2, Math.PI)), pen.fill();
    case "diamond":
      return outline(corners(4, r * 1.2)), pen.fill();
    case "frame":
      return outline(corners(4, r, Math.PI / 4)), pen.stroke();
    case "plus":
      return strokes([[[-r, 0], [r, 0]], [[0, -r], [0, r]]]);
    case "cross":
      return strokes([[[-d, -d], [d, d]], [[-d, d], [d, -d]]]);
    default:
      pen.beginPath();
      pen.arc(0, 0, shape === "dot" ? r * 0.5 : shape === "ring" ? d : r, 0, 2 * Math.PI);
      return shape === "ring" ? pen.stroke() : pen.fill();
  }
};

// A shape in a colour on a canvas of its own, to be drawn many times. `scale`: device pixels in one of the page.
const sprite = (shape, colour, r, scale) => {
  const canvas = document.createElement("canvas");
  const side = Math.ceil((r * 1.3 + 1) * 2 * scale);
  canvas.width = canvas.height = side;
  const pen = canvas.getContext("2d");
  pen.translate(side / 2, side / 2);
  pen.scale(scale, scale);
  pen.fillStyle = pen.strokeStyle = colour;
  trace(pen, shape, r);
  return canvas;
};
