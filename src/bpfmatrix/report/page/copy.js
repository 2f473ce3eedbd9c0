// The buttons that copy a command.

import { createButton, createElement } from "./dom.js";

/** Let each button of class `copy` copy the text of the element before it. */
export function setUpCopying() {
  document.addEventListener("click", async (event) => {
    const button = event.target.closest("button.copy");
    if (!button) return;
    const source = button.previousElementSibling;
    button.textContent = (await copyText(source)) ? "Copied" : "Selected: press Ctrl+C";
    setTimeout(() => {
      button.textContent = "Copy";
    }, 2000);
  });
}

/** A command, and the button that copies it. */
export function createCommand(words) {
  const button = createButton("copy", "Copy");
  button.setAttribute("aria-label", `Copy: ${words}`);
  return [createElement("code", "", words), " ", button];
}

// Whether the text of an element was copied. If not, it is selected.
async function copyText(element) {
  try {
    await navigator.clipboard.writeText(element.textContent);
    return true;
  } catch {
    // A browser may allow this for pages of servers only, and not for files.
    return copySelection(element);
  }
}

function copySelection(element) {
  const selection = getSelection();
  selection.selectAllChildren(element);
  const isCopied = document.execCommand("copy");
  if (isCopied) selection.removeAllRanges();
  return isCopied;
}
