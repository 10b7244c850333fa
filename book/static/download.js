// The buttons below "Download this page" save the page's files. The theme would open them in a tab. A page on disk cannot save another
// file, so there the text comes from a script beside it, see book/downloads.py.
document.addEventListener("DOMContentLoaded", () => {
  for (const link of document.querySelectorAll(".dropdown-download-buttons a[href]")) {
    link.download = decodeURIComponent(link.pathname.split("/").pop());
    link.removeAttribute("target");
    if (location.protocol === "file:") {
      link.addEventListener("click", (event) => {
        if (link.href.startsWith("blob:")) return;
        event.preventDefault();
        const script = document.createElement("script");
        window.handed = (text) => {
          link.href = URL.createObjectURL(new Blob([text], { type: "application/octet-stream" }));
          link.click();
        };
        script.src = `${link.href}.js`;
        document.head.append(script);
      });
    }
  }
});
