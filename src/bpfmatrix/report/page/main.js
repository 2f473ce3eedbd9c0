// Where the page's script begins. html.py joins these modules into one script, as a browser can't
// import modules into a page that it opens as a file. See `_script` there for the two rules that
// follow from this.

import { setUpControls, updateControls } from "./controls.js";
import { setUpCopying } from "./copy.js";
import { setUpCursor, showCell } from "./cursor.js";
import { byId } from "./dom.js";
import { setUpMatrix, updateMatrix } from "./matrix.js";
import { openPanel, panel, setUpPanel } from "./panel.js";
import { setUpPrinting } from "./printing.js";
import { readAddress, state } from "./state.js";

function showAddress() {
  readAddress();
  updateControls();
  updateMatrix();
  if (state.panel) {
    const { column, row } = state.panel;
    showCell(column, row);
    openPanel(column, row);
  } else if (panel.open) {
    panel.close();
  }
  // A link to a view of the matrix leads there.
  if (!state.panel && location.hash) byId("all-title").scrollIntoView();
}

setUpMatrix();
setUpPanel();
setUpCursor();
setUpControls();
setUpCopying();
setUpPrinting();
addEventListener("hashchange", showAddress);
showAddress();
document.documentElement.dataset.ready = "1";
performance.mark("ready"); // benchmarks/report_page.py reads it
