// The page as an anywidget, which lab/playground/widget.py makes: in a shadow root, so that its style and the notebook's do not mix.
// The kernel computes: tasks go there as messages, and each step comes back as one with two buffers, x and x_0.

export default {
  async render({ model, el }) {
    const { settings, style, main, modules } = JSON.parse(model.get("parts"));
    const host = document.createElement("div");
    host.dataset.lmSuppressShortcuts = "true"; // else JupyterLab takes a digit that is typed here for a command
    host.addEventListener("keydown", (event) => event.stopPropagation());
    el.append(host);
    const root = host.attachShadow({ mode: "open" });
    root.innerHTML = `<style>${style}</style><div class="page widget">${main}<footer><p id="provider"></p></footer></div>`;
    const kernel = { postMessage: (task) => model.send(plain(task)) };
    const answered = (message, buffers) => kernel.onmessage?.({ data: { ...message, ...arrays(message, buffers) } });
    model.on("msg:custom", answered);
    const { start } = await loaded(modules);
    start(root, settings, kernel);
    kernel.onmessage({ data: { kind: "ready", provider: "kernel" } });
    return () => {
      model.off("msg:custom", answered);
      model.send({}); // cancels what is computed
    };
  },
};

/** The last of `modules`, {name: source} in the order in which they import each other. */
async function loaded(modules) {
  const urls = {};
  for (const [name, source] of Object.entries(modules)) {
    const linked = source.replace(/ from "\.\/([\w.]+)";/g, (_, other) => ` from "${urls[other]}";`);
    urls[name] = URL.createObjectURL(new Blob([linked], { type: "text/javascript" }));
  }
  const last = await import(Object.values(urls).at(-1));
  Object.values(urls).forEach((url) => URL.revokeObjectURL(url));
  return last;
}

/** A task with lists in place of typed arrays, as JSON has them. */
function plain(task) {
  return task.image ? { ...task, image: Array.from(task.image) } : task;
}

function arrays(message, buffers) {
  if (message.kind !== "step") return {};
  const [x, x_0] = buffers.map((each) => new Float32Array(each.buffer.slice(each.byteOffset, each.byteOffset + each.byteLength)));
  return { x, x_0 };
}
