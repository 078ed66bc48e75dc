// The server's side of the page: requests, the stream of events, and packed arrays.

const TOKEN = "segkit-token"; // of this tab only

export class RequestError extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

export function setToken(token) {
  sessionStorage.setItem(TOKEN, token);
}

function headers(more = {}) {
  const token = sessionStorage.getItem(TOKEN);
  return token ? { ...more, Authorization: `Bearer ${token}` } : more;
}

async function check(response) {
  if (response.ok) return response;
  let message = `the server answered ${response.status}`;
  try {
    message = (await response.json()).error ?? message;
  } catch {
    // not JSON: what stands between the server and this page has answered
  }
  throw new RequestError(response.status, message);
}

export async function models() {
  return (await check(await fetch("/models", { headers: headers() }))).json();
}

// Segments a file; yields the events { name, data } as they come.
export async function* segment(file, model, signal) {
  const query = new URLSearchParams({ model: model.name, version: model.version, pixels: "true" });
  const response = await fetch(`/segment?${query}`, {
    method: "POST",
    body: file,
    headers: headers({ Accept: "text/event-stream", "Content-Type": "application/octet-stream" }),
    signal,
  });
  await check(response);
  let text = "";
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    text += value;
    let end = text.indexOf("\n\n");
    while (end >= 0) {
      const event = parse(text.slice(0, end));
      text = text.slice(end + 2);
      if (event?.name === "error") throw new RequestError(event.data.status, event.data.error);
      if (event) yield event;
      end = text.indexOf("\n\n");
    }
  }
}

function parse(block) {
  const lines = block.split("\n");
  const name = lines.find((line) => line.startsWith("event: "))?.slice(7);
  const data = lines.filter((line) => line.startsWith("data: ")).map((line) => line.slice(6));
  return name ? { name, data: JSON.parse(data.join("\n")) } : null;
}

// Unpacks base64 of a zlib stream.
export async function unpack(base64) {
  const stream = new Blob([decode(base64)]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

export function decode(base64) {
  return Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
}
