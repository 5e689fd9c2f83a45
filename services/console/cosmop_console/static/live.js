// Keeps the parts of a page that are marked with data-live up to date while the page is seen. Only what differs is
// touched, so that focus, selections and pictures stay.
const PERIOD = 2000;

function sync(now, wanted) {
  if (now.nodeType !== Node.ELEMENT_NODE) {
    if (now.nodeValue !== wanted.nodeValue) now.nodeValue = wanted.nodeValue;
    return;
  }
  for (const { name } of [...now.attributes]) if (!wanted.hasAttribute(name)) now.removeAttribute(name);
  for (const { name, value } of wanted.attributes) if (now.getAttribute(name) !== value) now.setAttribute(name, value);
  syncChildren(now, wanted);
}

function syncChildren(now, wanted) {
  const [have, want] = [[...now.childNodes], [...wanted.childNodes]];
  want.forEach((node, i) => {
    if (!have[i]) now.append(node);
    else if (have[i].nodeType === node.nodeType && have[i].nodeName === node.nodeName) sync(have[i], node);
    else have[i].replaceWith(node);
  });
  have.slice(want.length).forEach((node) => node.remove());
}

async function refresh(part) {
  const response = await fetch(part.dataset.live, { headers: { Accept: "text/html" } });
  if (!response.ok) throw new Error(`${response.status}`);
  const template = document.createElement("template");
  template.innerHTML = await response.text();
  syncChildren(part, template.content);
}

async function watch(part) {
  for (;;) {
    await new Promise((done) => setTimeout(done, PERIOD));
    if (document.hidden) continue;
    try {
      await refresh(part);
      document.body.classList.remove("stale");
    } catch {
      document.body.classList.add("stale");
    }
  }
}

document.querySelectorAll("[data-live]").forEach(watch);
