// The picture with masks, clicks and the keyboard's cross.
import { maskImage } from "./rle.js";

const COLOURS = [[255, 87, 51], [51, 153, 255], [76, 209, 55], [255, 195, 0], [199, 0, 255], [0, 210, 211],
  [255, 105, 180], [160, 120, 60]];
export const colourOf = (objId) => COLOURS[(((objId - 1) % COLOURS.length) + COLOURS.length) % COLOURS.length];

export class Viewer {
  constructor(canvas) {
    this.canvas = canvas;
    this.context = canvas.getContext("2d");
    this.picture = null;
    this.objects = [];
    this.points = [];
    this.box = null;
    this.cross = null;
    this.hidden = new Set();
    this.layer = document.createElement("canvas");
  }

  resize(width, height) {
    for (const canvas of [this.canvas, this.layer]) [canvas.width, canvas.height] = [width, height];
    this.cross = { x: Math.round(width / 2), y: Math.round(height / 2) };
  }

  draw() {
    const { canvas, context, layer } = this;
    context.clearRect(0, 0, canvas.width, canvas.height);
    if (this.picture) context.drawImage(this.picture, 0, 0, canvas.width, canvas.height);
    for (const object of this.objects) {
      if (this.hidden.has(object.obj_id)) continue;
      const image = maskImage(object.counts, canvas.width, canvas.height, colourOf(object.obj_id), 0.5);
      layer.getContext("2d").putImageData(image, 0, 0);
      context.drawImage(layer, 0, 0);
    }
    const unit = Math.max(1, canvas.width / 400);
    for (const { x, y, positive, objId } of this.points) {
      context.beginPath();
      context.arc(x, y, 3.5 * unit, 0, 2 * Math.PI);
      context.fillStyle = positive ? `rgb(${colourOf(objId)})` : "#111";
      context.strokeStyle = "#fff";
      context.lineWidth = 1.2 * unit;
      context.fill();
      context.stroke();
    }
    if (this.box) {
      const { x0, y0, x1, y1 } = this.box;
      context.strokeStyle = "#fff";
      context.lineWidth = 1.5 * unit;
      context.strokeRect(Math.min(x0, x1), Math.min(y0, y1), Math.abs(x1 - x0), Math.abs(y1 - y0));
    }
    if (this.cross && document.activeElement === canvas) {
      const { x, y } = this.cross;
      context.strokeStyle = "#fff";
      context.lineWidth = unit;
      context.beginPath();
      context.moveTo(x - 8 * unit, y); context.lineTo(x + 8 * unit, y);
      context.moveTo(x, y - 8 * unit); context.lineTo(x, y + 8 * unit);
      context.stroke();
    }
  }

  // The place of a pointer in pixels of the picture.
  place(event) {
    const bounds = this.canvas.getBoundingClientRect();
    const within = (value, size) => Math.min(Math.max(value, 0), size - 1);
    return {
      x: within((event.clientX - bounds.left) * this.canvas.width / bounds.width, this.canvas.width),
      y: within((event.clientY - bounds.top) * this.canvas.height / bounds.height, this.canvas.height),
    };
  }
}
