// Puts several slices into one zip file, stored as they are: the form in which a volume of slices is sent.

const TABLE = Uint32Array.from({ length: 256 }, (_, value) => {
  for (let bit = 0; bit < 8; bit++) value = value & 1 ? 0xedb88320 ^ (value >>> 1) : value >>> 1;
  return value;
});

function crc32(content) {
  let sum = 0xffffffff;
  for (const byte of content) sum = TABLE[(sum ^ byte) & 255] ^ (sum >>> 8);
  return (sum ^ 0xffffffff) >>> 0;
}

// Fields as [bytes, value], little-endian.
function record(...fields) {
  const view = new DataView(new ArrayBuffer(fields.reduce((sum, [bytes]) => sum + bytes, 0)));
  let at = 0;
  for (const [bytes, value] of fields) {
    if (bytes === 2) view.setUint16(at, value, true);
    else view.setUint32(at, value, true);
    at += bytes;
  }
  return view.buffer;
}

// A File named `name` that holds `files`, each { file, path }.
export async function zip(files, name) {
  const parts = [];
  const directory = [];
  let offset = 0;
  for (const { file, path: inside } of files) {
    const content = new Uint8Array(await file.arrayBuffer());
    const path = new TextEncoder().encode(inside);
    // Version 2.0, names in UTF-8, stored, the first day of 1980.
    const common = [[2, 20], [2, 0x800], [2, 0], [2, 0], [2, 33], [4, crc32(content)], [4, content.length], [4, content.length], [2, path.length], [2, 0]];
    const local = record([4, 0x04034b50], ...common);
    parts.push(local, path, content);
    directory.push(record([4, 0x02014b50], [2, 20], ...common, [2, 0], [2, 0], [2, 0], [4, 0], [4, offset]), path);
    offset += local.byteLength + path.length + content.length;
  }
  const length = directory.reduce((sum, part) => sum + part.byteLength, 0);
  const end = record([4, 0x06054b50], [2, 0], [2, 0], [2, files.length], [2, files.length], [4, length], [4, offset], [2, 0]);
  return new File([...parts, ...directory, end], name, { type: "application/zip" });
}
