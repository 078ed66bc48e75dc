// Draws a plane of a volume, and the mask over it, on a canvas.

const scratch = { image: document.createElement("canvas"), mask: document.createElement("canvas") };

// Where the plane lies in a canvas: in proportion, as large as fits, centred.
export function fit(canvas, size) {
  const tall = size.height * size.pixelHeight;
  const wide = size.width * size.pixelWidth;
  const factor = Math.min(canvas.width / wide, canvas.height / tall);
  const width = wide * factor;
  const height = tall * factor;
  return { left: (canvas.width - width) / 2, top: (canvas.height - height) / 2, width, height };
}

// `look` is { channel, low, high, opacity, shown }; channel null shows three channels as colours.
export function draw(canvas, volume, plane, index, look, cross) {
  const size = volume.size(plane);
  const context = canvas.getContext("2d");
  context.fillStyle = "#000";
  context.fillRect(0, 0, canvas.width, canvas.height);
  const place = fit(canvas, size);
  paint(scratch.image, size, (data) => fillImage(data, volume, plane, index, look));
  context.imageSmoothingEnabled = true;
  context.drawImage(scratch.image, place.left, place.top, place.width, place.height);
  if (volume.mask && look.shown) {
    paint(scratch.mask, size, (data) => fillMask(data, volume, plane, index, look, size));
    context.imageSmoothingEnabled = false;
    context.drawImage(scratch.mask, place.left, place.top, place.width, place.height);
  }
  if (cross) drawCross(context, place, cross);
}

function paint(canvas, size, fill) {
  canvas.width = size.width;
  canvas.height = size.height;
  const context = canvas.getContext("2d");
  const image = context.createImageData(size.width, size.height);
  fill(image.data);
  context.putImageData(image, 0, 0);
}

function fillImage(data, volume, plane, index, look) {
  const count = volume.channels.length;
  const scale = 255 / Math.max(1e-9, look.high - look.low);
  const pixels = volume.pixels;
  const offsets = look.channel === null ? [0, 1, 2] : [look.channel, look.channel, look.channel];
  volume.eachVoxel(plane, index, (voxel, position) => {
    const at = voxel * count;
    data[4 * position] = (pixels[at + offsets[0]] - look.low) * scale;
    data[4 * position + 1] = (pixels[at + offsets[1]] - look.low) * scale;
    data[4 * position + 2] = (pixels[at + offsets[2]] - look.low) * scale;
    data[4 * position + 3] = 255;
  });
}

// A translucent fill with an opaque outline: voxels with a neighbour of another class.
function fillMask(data, volume, plane, index, look, size) {
  const labels = new Uint8Array(size.width * size.height);
  volume.eachVoxel(plane, index, (voxel, position) => {
    labels[position] = volume.mask[voxel];
  });
  const inside = Math.round(255 * look.opacity);
  const outline = look.opacity > 0 ? Math.max(inside, 230) : 0;
  for (let position = 0; position < labels.length; position++) {
    const label = labels[position];
    if (!label) continue;
    const x = position % size.width;
    const edge =
      x === 0 || x === size.width - 1 || labels[position - 1] !== label || labels[position + 1] !== label ||
      labels[position - size.width] !== label || labels[position + size.width] !== label;
    data.set(volume.colours[label - 1], 4 * position);
    data[4 * position + 3] = edge ? outline : inside;
  }
}

function drawCross(context, place, cross) {
  const x = place.left + place.width * cross.x;
  const y = place.top + place.height * cross.y;
  context.strokeStyle = "rgba(125, 184, 245, 0.55)";
  context.lineWidth = 1;
  context.beginPath();
  context.moveTo(x, place.top);
  context.lineTo(x, place.top + place.height);
  context.moveTo(place.left, y);
  context.lineTo(place.left + place.width, y);
  context.stroke();
}
