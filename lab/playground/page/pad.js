// A drawing pad of 28 x 28 pixels, for mouse, finger and keyboard.

const SIDE = 28;
const [CORE, EDGE] = [0.7, 1.9]; // distance from the pen in pixels: white within the first, black from the second on, as MNIST's strokes
const HATCH = [70, 110, 220]; // the colour of what the network draws

export class Pad {
  /** changed(): called after each stroke. */
  constructor(canvas, changed) {
    Object.assign(this, { canvas, changed, pixels: new Float32Array(SIDE * SIDE), mask: null, given: false, pen: null, down: false });
    canvas.addEventListener("pointerdown", (event) => this.begin(event));
    canvas.addEventListener("pointermove", (event) => this.move(event));
    for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, () => this.end());
    canvas.addEventListener("keydown", (event) => this.key(event));
    canvas.addEventListener("blur", () => this.leave());
  }

  /** Show pixels in [0, 1]. given: they are an example, which the first stroke clears. */
  show(pixels, given = false) {
    Object.assign(this, { pixels: Float32Array.from(pixels), given });
    this.paint();
  }

  /** Show lines, each a list of points [x, y]. */
  draw(lines, given = false) {
    this.show(new Float32Array(SIDE * SIDE), given);
    for (const line of lines) line.forEach((point, i) => this.stroke(line[Math.max(i - 1, 0)], point));
    this.paint();
  }

  /** mask: 1 where the network draws, or null. */
  cover(mask) {
    this.mask = mask;
    this.paint();
  }

  get blank() {
    return this.pixels.every((value) => value === 0);
  }

  /** Whether nothing is drawn outside the mask. */
  get empty() {
    return this.pixels.every((value, i) => value === 0 || this.mask?.[i]);
  }

  begin(event) {
    event.preventDefault();
    this.canvas.focus({ preventScroll: true });
    this.canvas.setPointerCapture(event.pointerId);
    this.pen = null;
    this.last = this.place(event);
    this.mark(this.last, this.last);
  }

  move(event) {
    if (!this.last) return;
    for (const each of event.getCoalescedEvents?.().concat(event) ?? [event]) {
      const point = this.place(each);
      this.mark(this.last, point);
      this.last = point;
    }
  }

  end() {
    if (!this.last) return;
    this.last = null;
    this.changed();
  }

  key(event) {
    const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (!step && event.key !== " ") return;
    event.preventDefault();
    const from = this.pen ?? [SIDE / 2, SIDE / 2];
    this.pen = step ? from.map((value, i) => Math.min(Math.max(value + step[i], 1), SIDE - 1)) : from;
    if (!step) {
      this.down = !this.down;
      if (!this.down) this.changed();
    }
    if (this.down) this.mark(from, this.pen);
    this.paint();
  }

  leave() {
    if (this.down) this.changed();
    Object.assign(this, { pen: null, down: false });
    this.paint();
  }

  place(event) {
    const box = this.canvas.getBoundingClientRect();
    return [((event.clientX - box.left) / box.width) * SIDE, ((event.clientY - box.top) / box.height) * SIDE];
  }

  mark(from, to) {
    if (this.given) this.show(new Float32Array(SIDE * SIDE));
    this.stroke(from, to);
    this.paint();
  }

  /** A straight stroke: each pixel by its distance from it. */
  stroke([ax, ay], [bx, by]) {
    const [dx, dy] = [bx - ax, by - ay];
    for (let i = 0; i < SIDE * SIDE; i++) {
      const [px, py] = [(i % SIDE) + 0.5 - ax, Math.floor(i / SIDE) + 0.5 - ay];
      const along = Math.min(Math.max((px * dx + py * dy) / (dx * dx + dy * dy || 1), 0), 1);
      const far = Math.hypot(px - along * dx, py - along * dy);
      this.pixels[i] = Math.max(this.pixels[i], Math.min(Math.max((EDGE - far) / (EDGE - CORE), 0), 1));
    }
  }

  paint() {
    const image = new ImageData(SIDE, SIDE);
    this.pixels.forEach((value, i) => {
      const hidden = this.mask?.[i];
      const striped = hidden && ((i % SIDE) + Math.floor(i / SIDE)) % 4 < 2 ? 0.55 : 0.35;
      const colour = hidden ? HATCH.map((each) => each * striped) : [value, value, value].map((each) => each * 255);
      image.data.set([...colour, 255], i * 4);
    });
    if (this.pen) {
      const [x, y] = this.pen.map((each) => Math.min(Math.floor(each), SIDE - 1));
      image.data.set(this.down ? [255, 170, 60, 255] : [120, 170, 255, 255], (y * SIDE + x) * 4);
    }
    this.canvas.getContext("2d").putImageData(image, 0, 0);
  }
}
