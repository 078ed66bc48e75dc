// The planes of one scan, where they are and how they look; the controls at the side.

import { Pane } from "./pane.js";
import { PLANES } from "./volume.js";

const at = (id) => document.getElementById(id);
const clamp = (value, low, high) => Math.min(high, Math.max(low, value));

export class Viewer {
  constructor(volume) {
    this.volume = volume;
    this.position = volume.shape.map((length) => Math.floor((length - 1) / 2));
    const colours = volume.picture && volume.channels.length === 3;
    // Of a study the FLAIR first: lesions are looked for on it.
    const first = Math.max(0, volume.channels.indexOf("flair"));
    this.look = { channel: colours ? null : first, low: 0, high: volume.top, opacity: at("opacity").value / 100, shown: true };
    this.pending = false;
    const planes = volume.shape[0] > 1 ? Object.keys(PLANES) : ["axial"];
    this.panes = planes.map((plane) => new Pane(this, plane));
    at("panes").classList.toggle("volume", planes.length > 1);
    at("panes").replaceChildren(...this.panes.map((pane) => pane.element));
    this.fillChannels(colours);
    this.listen();
    this.automatic();
    this.show(true);
  }

  // Ends this viewer's hold on the page.
  close() {
    this.listening.abort();
    this.panes.forEach((pane) => pane.remove());
  }

  move(axis, index) {
    this.position[axis] = clamp(index, 0, this.volume.shape[axis] - 1);
    this.redraw();
  }

  // Goes to the slices with the most mask.
  findMask() {
    for (const pane of this.panes) {
      const index = this.volume.fullest(pane.plane);
      if (index !== null) this.position[pane.axis] = index;
    }
    this.redraw();
  }

  automatic() {
    Object.assign(this.look, this.volume.automatic(this.look.channel));
    this.redraw();
  }

  // A drag of so many pixels: across for the window, up for the level.
  adjust(dx, dy) {
    const unit = this.volume.top / 500;
    this.setWindow(this.look.high - this.look.low + dx * unit, (this.look.high + this.look.low) / 2 - dy * unit);
  }

  setWindow(width, level) {
    const { top } = this.volume;
    const half = clamp(width, 1, 2 * top) / 2;
    const middle = clamp(level, 0, top);
    Object.assign(this.look, { low: middle - half, high: middle + half });
    this.redraw();
  }

  setOpacity(percent) {
    at("opacity").value = clamp(percent, 0, 100);
    this.look.opacity = at("opacity").value / 100;
    this.redraw();
  }

  // Whether the mask is shown: after, or before.
  show(shown) {
    this.look.shown = shown;
    at("after").setAttribute("aria-pressed", shown);
    at("before").setAttribute("aria-pressed", !shown);
    this.redraw();
  }

  // Draws once for all changes of a frame.
  redraw() {
    if (this.pending) return;
    this.pending = true;
    requestAnimationFrame(() => {
      this.pending = false;
      this.panes.forEach((pane) => pane.draw());
      this.writeValues();
    });
  }

  writeValues() {
    const { volume, look } = this;
    const intensity = (pixel) => {
      const value = pixel * volume.slope + volume.intercept;
      return Math.abs(value) >= 100 ? Math.round(value).toString() : value.toPrecision(3);
    };
    const width = look.high - look.low;
    const level = (look.high + look.low) / 2;
    at("window").value = (1000 * width) / volume.top;
    at("level").value = (1000 * level) / volume.top;
    at("window-value").textContent = intensity(width - volume.intercept / volume.slope);
    at("level-value").textContent = intensity(level);
    at("opacity-value").textContent = `${at("opacity").value} %`;
  }

  fillChannels(colours) {
    const options = this.volume.channels.map((name, index) => new Option(name, index));
    if (colours) options.unshift(new Option("all, as colours", ""));
    at("channel").replaceChildren(...options);
    at("channel").value = this.look.channel ?? "";
    at("channel-row").hidden = options.length < 2;
  }

  listen() {
    this.listening = new AbortController();
    const on = (id, event, act) => at(id).addEventListener(event, act, { signal: this.listening.signal });
    const { volume } = this;
    on("opacity", "input", () => this.setOpacity(at("opacity").value));
    on("window", "input", () => this.setWindow((at("window").value / 1000) * volume.top, this.level));
    on("level", "input", () => this.setWindow(this.width, (at("level").value / 1000) * volume.top));
    on("auto", "click", () => this.automatic());
    on("before", "click", () => this.show(false));
    on("after", "click", () => this.show(true));
    on("channel", "change", () => {
      this.look.channel = at("channel").value === "" ? null : Number(at("channel").value);
      this.automatic();
    });
  }

  get width() {
    return this.look.high - this.look.low;
  }

  get level() {
    return (this.look.high + this.look.low) / 2;
  }

  // What a key does wherever the focus is; whether it did anything.
  key(key) {
    const unit = this.volume.top / 40;
    const acts = {
      " ": () => this.show(!this.look.shown),
      "[": () => this.setOpacity(Number(at("opacity").value) - 5),
      "]": () => this.setOpacity(Number(at("opacity").value) + 5),
      "-": () => this.setWindow(this.width - unit, this.level),
      "+": () => this.setWindow(this.width + unit, this.level),
      "=": () => this.setWindow(this.width + unit, this.level),
      ",": () => this.setWindow(this.width, this.level - unit),
      ".": () => this.setWindow(this.width, this.level + unit),
      a: () => this.automatic(),
      n: () => this.findMask(),
      ArrowUp: () => this.panes[0].step(1),
      ArrowDown: () => this.panes[0].step(-1),
      PageUp: () => this.panes[0].step(10),
      PageDown: () => this.panes[0].step(-10),
    };
    if (!acts[key]) return false;
    acts[key]();
    return true;
  }
}
