// A scan and its mask in memory, and the planes that can be cut from them.

// The axes of each plane: which index of [slice, row, column] runs through it, down it and across it.
// Slices run to superior, rows to posterior, columns to the left: seen from the feet, as radiologists do.
export const PLANES = {
  axial: { through: 0, down: 1, across: 2, upwards: false, marks: ["A", "L", "P", "R"] },
  coronal: { through: 1, down: 0, across: 2, upwards: true, marks: ["S", "L", "I", "R"] },
  sagittal: { through: 2, down: 0, across: 1, upwards: true, marks: ["S", "P", "I", "A"] },
};

export class Volume {
  // `scan` is the event of that name.
  constructor(scan) {
    this.shape = scan.shape;
    this.spacing = scan.spacing_mm ?? [1, 1, 1];
    this.known = scan.spacing_mm !== null;
    this.oriented = scan.oriented;
    this.channels = scan.channels;
    this.slope = scan.slope;
    this.intercept = scan.intercept;
    this.classes = scan.classes;
    this.colours = scan.colours.map((text) => [1, 3, 5].map((at) => parseInt(text.slice(at, at + 2), 16)));
    this.wide = scan.dtype === "uint16";
    this.picture = !this.wide && scan.kind !== "nifti"; // display values, not intensities
    const voxels = this.shape[0] * this.shape[1] * this.shape[2];
    this.pixels = new (this.wide ? Uint16Array : Uint8Array)(voxels * this.channels.length);
    this.mask = null;
  }

  get top() {
    return this.wide ? 65535 : 255;
  }

  // Puts the bytes of some slices in their place.
  setPixels(first, content) {
    const values = this.wide ? new Uint16Array(content.buffer) : content;
    this.pixels.set(values, first * this.shape[1] * this.shape[2] * this.channels.length);
  }

  // The strides of [slice, row, column], in voxels.
  get strides() {
    return [this.shape[1] * this.shape[2], this.shape[2], 1];
  }

  // Size of a plane in voxels, and of its voxels in millimetres.
  size(plane) {
    const { down, across } = PLANES[plane];
    return {
      width: this.shape[across],
      height: this.shape[down],
      pixelWidth: this.spacing[across],
      pixelHeight: this.spacing[down],
    };
  }

  // Calls `visit(voxel, position)` for each voxel of a plane, in the order of its picture.
  eachVoxel(plane, index, visit) {
    const { through, down, across, upwards } = PLANES[plane];
    const strides = this.strides;
    const { width, height } = this.size(plane);
    let position = 0;
    for (let y = 0; y < height; y++) {
      const row = upwards ? height - 1 - y : y;
      let voxel = index * strides[through] + row * strides[down];
      for (let x = 0; x < width; x++, voxel += strides[across]) visit(voxel, position++);
    }
  }

  // The window that shows the foreground: its 0.5 and 99.5 per cent, as the net's own window; pixel values.
  automatic(channel) {
    if (this.picture) return { low: 0, high: 255 };
    const counts = new Float64Array(this.top + 1);
    const count = this.channels.length;
    let least = this.top;
    const first = channel ?? 0;
    for (let at = first; at < this.pixels.length; at += channel === null ? 1 : count) {
      const value = this.pixels[at];
      counts[value]++;
      if (value < least) least = value;
    }
    counts[least] = 0;
    const total = counts.reduce((sum, value) => sum + value, 0);
    if (!total) return { low: 0, high: this.top };
    const at = (share) => {
      let seen = 0;
      for (let value = 0; value <= this.top; value++) {
        seen += counts[value];
        if (seen >= share * total) return value;
      }
      return this.top;
    };
    const low = at(0.005);
    return { low, high: Math.max(low + 1, at(0.995)) };
  }

  // The slice of a plane with the most mask; null without any.
  fullest(plane) {
    if (!this.mask) return null;
    const { through } = PLANES[plane];
    const stride = this.strides[through];
    const areas = new Float64Array(this.shape[through]);
    for (let voxel = 0; voxel < this.mask.length; voxel++) {
      if (this.mask[voxel]) areas[Math.floor(voxel / stride) % this.shape[through]]++;
    }
    const best = areas.reduce((most, area, index) => (area > areas[most] ? index : most), 0);
    return areas[best] ? best : null;
  }
}
