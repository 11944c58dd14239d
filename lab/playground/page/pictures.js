// Images on canvases: one, several in rows, and a film of a walk.

const SIDE = 28;
const PIXELS = SIDE * SIDE;
const [COLUMNS, GAP] = [10, 2]; // digits in a row; pixels between the pictures of a film

/** Images on the course's scale as pixels in [0, 1]. */
export function pixels(x, [black, white]) {
  return x.map((value) => Math.min(Math.max((value - black) / (white - black), 0), 1));
}

/** Pixels in [0, 1] on the course's scale. */
export function scaled(image, [black, white]) {
  return image.map((value) => value * (white - black) + black);
}

/** Draw the digits `of` of x side by side, each pixel `scale` wide. */
export function show(canvas, x, of, range, scale = 1) {
  const columns = Math.min(COLUMNS, of.length);
  canvas.width = columns * SIDE * scale;
  canvas.height = Math.ceil(of.length / columns) * SIDE * scale;
  const context = canvas.getContext("2d");
  context.fillRect(0, 0, canvas.width, canvas.height);
  of.forEach((number, i) => place(context, x, number, range, (i % columns) * SIDE * scale, Math.floor(i / columns) * SIDE * scale, scale));
}

/**
 * Draw a film: a row for each of rows(step) = [[x, number], …], and `columns` of `count` steps, of which the ones in `steps` are there.
 * now: the step that is marked. Returns which step stands in each column.
 */
export function film(canvas, steps, count, rows, range, now, colour) {
  const columns = Math.min(12, count);
  const shown = Array.from({ length: columns }, (_, i) => Math.round((i * (count - 1)) / Math.max(columns - 1, 1)));
  const height = rows(steps[0]).length;
  canvas.width = columns * (SIDE + GAP) - GAP;
  canvas.height = height * (SIDE + GAP) - GAP + 3;
  const context = canvas.getContext("2d");
  shown.forEach((index, column) => {
    const left = column * (SIDE + GAP);
    context.fillStyle = "#000";
    for (let row = 0; row < height; row++) context.fillRect(left, row * (SIDE + GAP), SIDE, SIDE);
    if (steps[index]) rows(steps[index]).forEach(([x, number], row) => place(context, x, number, range, left, row * (SIDE + GAP), 1));
  });
  const nearest = shown.reduce((best, index, i) => (Math.abs(index - now) < Math.abs(shown[best] - now) ? i : best), 0);
  context.fillStyle = colour;
  context.fillRect(nearest * (SIDE + GAP), canvas.height - 2, SIDE, 2);
  return shown;
}

function place(context, x, number, range, left, top, scale) {
  const image = new ImageData(SIDE * scale, SIDE * scale);
  const values = pixels(x.subarray(number * PIXELS, (number + 1) * PIXELS), range);
  for (let i = 0; i < image.data.length / 4; i++) {
    const pixel = Math.floor(i / (SIDE * scale * scale)) * SIDE + Math.floor((i % (SIDE * scale)) / scale);
    image.data.fill(values[pixel] * 255, i * 4, i * 4 + 3);
    image.data[i * 4 + 3] = 255;
  }
  context.putImageData(image, left, top);
}
