// On paper, everything about the failures is unfolded.

export function setUpPrinting() {
  let folded = [];
  addEventListener("beforeprint", () => {
    folded = [
      ...document.querySelectorAll("details.failure:not([open]), details.notes:not([open])"),
    ];
    for (const details of folded) details.open = true;
  });
  addEventListener("afterprint", () => {
    for (const details of folded) details.open = false;
  });
}
