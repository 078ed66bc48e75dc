// The page: a file in, the scan and its mask to look at.

import { RequestError, decode, models, segment, setToken, unpack } from "./api.js";
import { dropped } from "./drop.js";
import { measuresTable } from "./measures.js";
import { Viewer } from "./viewer.js";
import { Volume } from "./volume.js";
import { zip } from "./zip.js";

const at = (id) => document.getElementById(id);
let viewer = null;
let running = null; // the AbortController of the request in work
let address = null; // of the mask that can be downloaded
let known = []; // models

async function fillModels() {
  try {
    known = await models();
    const options = known.map((one, index) => new Option(label(one, known), index));
    at("model").replaceChildren(...options);
    at("token-form").hidden = true;
    tell("");
  } catch (error) {
    complain(error);
  }
}

function label(model, all) {
  const several = all.filter((other) => other.name === model.name).length > 1;
  return several ? `${model.name}, version ${model.version}` : model.name;
}

function tell(message) {
  at("error").textContent = message;
  at("error").hidden = !message;
}

function complain(error) {
  if (error.name === "AbortError") return;
  const own = error instanceof RequestError;
  if (own && error.status === 401) {
    at("token-form").hidden = false;
    at("token").focus();
  }
  if (!own) console.error(error);
  const reason = own ? error.message : "the server cannot be reached, or the connection broke";
  tell(reason[0].toUpperCase() + reason.slice(1) + ".");
}

async function open(file) {
  running?.abort();
  const request = new AbortController();
  running = request;
  tell("");
  at("work").hidden = false;
  stage("Sending", null);
  try {
    const model = known[at("model").value];
    if (!model) throw new RequestError(0, "no model is loaded");
    let volume = null;
    for await (const { name, data } of segment(file, model, request.signal)) {
      if (name === "scan") volume = begin(data, file.name);
      else if (name === "pixels") await addPixels(volume, data);
      else if (name === "progress") stage(`Slice ${data.done} of ${data.slices}`, data.done / data.slices);
      else if (name === "result") await finish(volume, data, file.name);
    }
  } catch (error) {
    complain(error);
  } finally {
    if (running === request) {
      running = null;
      at("work").hidden = true;
    }
  }
}

function begin(scan, name) {
  const volume = new Volume(scan);
  viewer?.close();
  viewer = new Viewer(volume);
  viewer.colours = scan.colours;
  at("side").hidden = false;
  at("viewer").hidden = false;
  at("empty").hidden = true;
  at("name").textContent = name;
  const [slices, height, width] = scan.shape;
  const size = slices > 1 ? `${width} x ${height} x ${slices}` : `${width} x ${height}`;
  const spacing = scan.spacing_mm ? `, ${[...scan.spacing_mm].reverse().map((mm) => mm.toFixed(2)).join(" x ")} mm` : "";
  at("about").textContent = `${size}${spacing}; ${scan.model}, version ${scan.version}`;
  at("measures").replaceChildren();
  at("notes").hidden = true;
  at("download").hidden = true;
  return volume;
}

async function addPixels(volume, data) {
  volume.setPixels(data.first, await unpack(data.data));
  const last = data.first + data.slices >= volume.shape[0];
  if (last) viewer.automatic();
  else viewer.redraw();
}

async function finish(volume, result, name) {
  volume.mask = await unpack(result.mask);
  at("measures").replaceChildren(measuresTable({ ...result, colours: viewer.colours }, volume));
  at("notes").replaceChildren(...result.notes.map((note) => Object.assign(document.createElement("li"), { textContent: note })));
  at("notes").hidden = !result.notes.length;
  if (address) URL.revokeObjectURL(address);
  address = URL.createObjectURL(new Blob([decode(result.file.data)], { type: result.file.media_type }));
  at("download").href = address;
  at("download").download = maskName(name, result.file.name);
  at("download").hidden = false;
  viewer.findMask();
}

function maskName(scan, mask) {
  const stem = scan.replace(/\.(nii\.gz|nii|tiff?|png|zip|dcm)$/i, "");
  return `${stem}_mask${mask.slice(mask.indexOf("."))}`;
}

function stage(text, share) {
  at("stage").textContent = text;
  if (share === null) at("progress").removeAttribute("value");
  else at("progress").value = share;
}

// One file is a scan; several are the slices of one, or a DICOM study. Each of them is { file, path }.
async function choose(files) {
  if (files.length === 1) open(files[0].file);
  else if (files.length) open(await zip(files, `${commonStem(files.map(({ path }) => path))}.zip`));
}

function named(files) {
  return [...files].map((file) => ({ file, path: file.webkitRelativePath || file.name }));
}

function commonStem(names) {
  let length = 0;
  while (names.every((name) => length < name.length && name[length] === names[0][length])) length++;
  return names[0].slice(0, length).replace(/[\W_]+$/, "") || "slices";
}

for (const id of ["open", "choose"]) at(id).addEventListener("click", () => at("file").click());
at("file").addEventListener("change", () => {
  choose(named(at("file").files));
  at("file").value = "";
});
at("cancel").addEventListener("click", () => running?.abort());
at("token-form").addEventListener("submit", (event) => {
  event.preventDefault();
  setToken(at("token").value);
  fillModels();
});

let depth = 0; // of elements that a dragged file has entered and not left
addEventListener("dragenter", () => document.body.classList.toggle("over", ++depth > 0));
addEventListener("dragleave", () => document.body.classList.toggle("over", --depth > 0));
addEventListener("dragover", (event) => event.preventDefault());
addEventListener("drop", (event) => {
  event.preventDefault();
  depth = 0;
  document.body.classList.remove("over");
  dropped(event.dataTransfer).then(choose, complain);
});
addEventListener("paste", (event) => choose(named(event.clipboardData?.files ?? [])));

addEventListener("keydown", (event) => {
  if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey) return;
  const inControl = event.target.closest("input, select, textarea, button, a, summary");
  if (inControl && (event.key === " " || event.key.startsWith("Arrow") || event.key.startsWith("Page"))) return;
  if (event.target.closest("input[type=password], select")) return;
  if (event.key === "o") at("file").click();
  else if (!viewer?.key(event.key)) return;
  event.preventDefault();
});

fillModels();
