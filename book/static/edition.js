// The switch to another language keeps the place: it leads to the section, term or formula that is being read, and takes along what is searched for.
document.addEventListener("DOMContentLoaded", () => {
  const LANDED = 100; // pixels: what an address leads to comes to lie above this, so that a switch there and back ends at the same place
  const place = () => {
    const above = (section) => section.getBoundingClientRect().top <= LANDED;
    const section = [...document.querySelectorAll("article :is(section, dt, div.math)[id]")].filter(above).at(-1);
    return section && scrollY > 0 ? `#${section.id}` : "";
  };
  for (const link of document.querySelectorAll("a.edition")) {
    const page = link.getAttribute("href");
    const lead = () => link.setAttribute("href", page + location.search + place());
    for (const kind of ["pointerdown", "focus", "click"]) link.addEventListener(kind, lead);
  }
});
