// Shorthands for the document. Text of a result is only ever set as text, never as HTML.

export function byId(id) {
  return document.getElementById(id);
}

export function createElement(tag, className = "", text = "") {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text) element.textContent = text;
  return element;
}

export function createButton(className = "", text = "") {
  const button = createElement("button", className, text);
  button.type = "button";
  return button;
}
