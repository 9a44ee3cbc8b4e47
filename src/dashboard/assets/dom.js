// Building elements. Text only ever becomes text nodes, so nothing an agent writes is markup.

export function element(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name === "class") made.className = value;
    else if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (name.includes("-")) made.setAttribute(name, value);
    else made[name] = value;
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

// Writes only what differs, so that a live region is not announced again for nothing.
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}
