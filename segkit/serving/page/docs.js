// Draws openapi.json as a page.

const holder = document.getElementById("api");

function element(name, text = "", className = "") {
  const one = document.createElement(name);
  one.textContent = text;
  if (className) one.className = className;
  return one;
}

function table(rows) {
  const one = document.createElement("table");
  for (const cells of rows) {
    const row = one.insertRow();
    cells.forEach((cell, index) => {
      const box = index ? row.insertCell() : row.appendChild(document.createElement("th"));
      box.textContent = cell;
    });
  }
  return one;
}

function example(path, method, operation) {
  const url = `${location.origin}${path}`;
  if (operation.operationId === "segment") {
    return `curl --data-binary @scan.tif -o mask.tif '${url}'\n` +
      `curl --data-binary @scan.nii.gz -H 'Accept: application/json' '${url}'\n` +
      `curl --data-binary @study.zip -o mask.dcm '${url}'\n` +
      `curl -F pre=@pre.nii.gz -F flair=@flair.nii.gz -F post=@post.nii.gz -o mask.nii.gz '${url}'`;
  }
  return method === "get" ? `curl '${url}'` : `curl -X POST '${url}'`;
}

function section(path, method, operation, shared) {
  const box = document.createElement("details");
  const head = document.createElement("summary");
  head.append(element("span", method, "method"), element("code", path), ` ${operation.summary}`);
  box.append(head);
  if (operation.description) box.append(element("p", operation.description));
  const parameters = [...shared, ...(operation.parameters ?? [])];
  if (parameters.length) {
    box.append(element("h3", "Parameters"));
    box.append(table(parameters.map((one) => [one.name, one.in, one.description ?? "", (one.schema.enum ?? []).join(", ")])));
  }
  if (operation.requestBody) {
    box.append(element("h3", "Body"), element("p", operation.requestBody.description ?? ""));
    box.append(element("p", Object.keys(operation.requestBody.content).join(", "), "quiet"));
  }
  box.append(element("h3", "Answers"));
  const answers = Object.entries(operation.responses);
  box.append(table(answers.map(([code, one]) => [code, one.description, Object.keys(one.content ?? {}).join(", ")])));
  box.append(element("h3", "At the terminal"), element("pre", example(path, method, operation)));
  return box;
}

const description = await (await fetch("/openapi.json")).json();
holder.append(element("p", `${description.info.description} Version ${description.info.version}.`));
for (const tag of description.tags) {
  holder.append(element("h2", tag.name), element("p", tag.description, "quiet"));
  for (const [path, methods] of Object.entries(description.paths)) {
    for (const [method, operation] of Object.entries(methods)) {
      if (operation.tags?.includes(tag.name)) holder.append(section(path, method, operation, methods.parameters ?? []));
    }
  }
}
