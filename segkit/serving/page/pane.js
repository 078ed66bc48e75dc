// One plane on the page: its canvas, its slider, and what mouse, fingers and keys do to it.

import { draw, fit } from "./draw.js";
import { PLANES } from "./volume.js";

const TITLES = { axial: ["Axial", "Slice"], coronal: ["Coronal", "Row"], sagittal: ["Sagittal", "Column"] };
const SWIPE = 12; // CSS pixels of a vertical swipe for one slice

export class Pane {
  // `viewer` holds volume, position, look, and is told of changes by move() and adjust().
  constructor(viewer, plane) {
    this.viewer = viewer;
    this.plane = plane;
    const { volume } = viewer;
    this.title = TITLES[plane][volume.oriented ? 0 : 1];
    this.element = document.createElement("div");
    this.element.className = "pane";
    this.canvas = document.createElement("canvas");
    this.canvas.tabIndex = 0;
    this.canvas.dataset.plane = plane;
    this.caption = document.createElement("div");
    this.caption.className = "caption";
    this.element.append(this.canvas, this.caption);
    if (volume.oriented) this.addMarks();
    if (this.count > 1) this.addSlider();
    else this.canvas.setAttribute("role", "img");
    this.canvas.setAttribute("aria-label", this.title);
    this.listen();
    this.observer = new ResizeObserver(() => this.resize());
    this.observer.observe(this.canvas);
  }

  get axis() {
    return PLANES[this.plane].through;
  }

  get count() {
    return this.viewer.volume.shape[this.axis];
  }

  get index() {
    return this.viewer.position[this.axis];
  }

  remove() {
    this.observer.disconnect();
    this.element.remove();
  }

  step(by) {
    this.viewer.move(this.axis, this.index + by);
  }

  draw() {
    const { viewer, plane } = this;
    draw(this.canvas, viewer.volume, plane, this.index, viewer.look, this.cross());
    this.caption.textContent = this.count > 1 ? `${this.title} ${this.index + 1} / ${this.count}` : "";
    if (this.slider) {
      this.slider.value = this.index;
      this.canvas.setAttribute("aria-valuenow", this.index + 1);
    }
  }

  addMarks() {
    ["top", "right", "bottom", "left"].forEach((side, index) => {
      const mark = document.createElement("span");
      mark.className = `mark ${side}`;
      mark.textContent = PLANES[this.plane].marks[index];
      mark.setAttribute("aria-hidden", "true");
      this.element.append(mark);
    });
  }

  addSlider() {
    this.slider = document.createElement("input");
    Object.assign(this.slider, { type: "range", min: 0, max: this.count - 1 });
    this.slider.setAttribute("aria-label", `${this.title} slice`);
    this.slider.addEventListener("input", () => this.viewer.move(this.axis, Number(this.slider.value)));
    this.canvas.setAttribute("role", "slider");
    this.canvas.setAttribute("aria-valuemin", 1);
    this.canvas.setAttribute("aria-valuemax", this.count);
    this.element.append(this.slider);
  }

  // Where the other planes cut this one, from 0 to 1; none for a single slice.
  cross() {
    const { volume, position } = this.viewer;
    if (volume.shape[0] === 1) return null;
    const { down, across, upwards } = PLANES[this.plane];
    const y = (position[down] + 0.5) / volume.shape[down];
    return { x: (position[across] + 0.5) / volume.shape[across], y: upwards ? 1 - y : y };
  }

  resize() {
    const ratio = window.devicePixelRatio || 1;
    this.canvas.width = Math.max(1, Math.round(this.canvas.clientWidth * ratio));
    this.canvas.height = Math.max(1, Math.round(this.canvas.clientHeight * ratio));
    this.draw();
  }

  listen() {
    const { canvas } = this;
    canvas.addEventListener("wheel", (event) => {
      event.preventDefault();
      this.step(event.deltaY > 0 ? -1 : 1);
    }, { passive: false });
    canvas.addEventListener("keydown", (event) => {
      const steps = { ArrowUp: 1, ArrowRight: 1, ArrowDown: -1, ArrowLeft: -1, PageUp: 10, PageDown: -10 };
      const by = event.key === "Home" ? -this.count : event.key === "End" ? this.count : steps[event.key];
      if (by === undefined || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      this.step(by);
    });
    canvas.addEventListener("pointerdown", (event) => this.press(event));
    canvas.addEventListener("contextmenu", (event) => event.preventDefault());
  }

  // A drag moves the crosshair; with shift or the right button it sets window and level. A finger that
  // swipes turns slices, and one that taps moves the crosshair.
  press(event) {
    const { canvas } = this;
    canvas.setPointerCapture(event.pointerId);
    const touch = event.pointerType === "touch";
    const window_ = event.shiftKey || event.button === 2;
    let [x, y] = [event.clientX, event.clientY];
    let swiped = false;
    const move = (moved) => {
      const [dx, dy] = [moved.clientX - x, moved.clientY - y];
      if (window_) {
        this.viewer.adjust(dx, dy);
        [x, y] = [moved.clientX, moved.clientY];
      } else if (!touch) {
        this.point(moved);
      } else if (Math.abs(dy) >= SWIPE) {
        swiped = true;
        this.step(-Math.sign(dy));
        y = moved.clientY;
      }
    };
    const end = (ended) => {
      canvas.removeEventListener("pointermove", move);
      canvas.removeEventListener("pointerup", end);
      canvas.removeEventListener("pointercancel", end);
      if (touch && !swiped && ended.type === "pointerup") this.point(ended);
    };
    canvas.addEventListener("pointermove", move);
    canvas.addEventListener("pointerup", end);
    canvas.addEventListener("pointercancel", end);
    if (!touch && !window_) this.point(event);
  }

  point(event) {
    const { volume } = this.viewer;
    if (volume.shape[0] === 1) return;
    const size = volume.size(this.plane);
    const place = fit(this.canvas, size);
    const box = this.canvas.getBoundingClientRect();
    const x = ((event.clientX - box.left) * this.canvas.width) / box.width;
    const y = ((event.clientY - box.top) * this.canvas.height) / box.height;
    const { down, across, upwards } = PLANES[this.plane];
    const row = Math.floor(((y - place.top) / place.height) * size.height);
    this.viewer.move(across, Math.floor(((x - place.left) / place.width) * size.width));
    this.viewer.move(down, upwards ? size.height - 1 - row : row);
  }
}
