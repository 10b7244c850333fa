// A table wider than the text's column reaches into the margin, as wide figures do; `full-width` is the theme's word for that, under which
// it also folds the page's contents away. Without this script the table scrolls in its box.
document.addEventListener("DOMContentLoaded", () => {
  for (const box of document.querySelectorAll(".bd-article :is(.cell_output .output, .pst-scrollable-table-container)")) {
    if (box.querySelector("table") && box.scrollWidth > box.clientWidth + 1) box.classList.add("full-width");
  }
});
