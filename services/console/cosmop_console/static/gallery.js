// The gallery works without this: it only spares a click on the filters, and says so where a picture cannot be shown.
document.querySelectorAll("form[data-autosubmit] select").forEach((select) => {
  select.addEventListener("change", () => select.form.requestSubmit());
});

// Filters that say nothing stay out of the address.
document.querySelectorAll("form[data-autosubmit]").forEach((form) => {
  form.addEventListener("formdata", (event) => {
    for (const [name, value] of [...event.formData]) {
      if (value === "") event.formData.delete(name);
    }
  });
});

function missing(img) {
  const note = document.createElement("span");
  note.className = "no-picture";
  note.textContent = "no picture";
  img.replaceWith(note);
}

document.querySelectorAll(".tile img").forEach((img) => {
  if (img.complete && img.naturalWidth === 0) missing(img);
  else img.addEventListener("error", () => missing(img));
});
