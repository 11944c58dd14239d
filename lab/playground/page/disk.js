// A browser runs no module from the disk, so that this script has to say it.
if (location.protocol === "file:") {
  document.getElementById("status").textContent = "A browser does not run this page from the disk. Serve its folder, as with: python -m http.server";
}
