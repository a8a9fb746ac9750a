// The box answers in place. Without this script, or if the answer cannot be had, the form is sent like any other.
(function () {
	"use strict";
	var count = 0;

	// part is the element with that class, made after another one if it is not there.
	function part(box, name, after) {
		var found = box.querySelector("." + name);
		if (!found) {
			found = document.createElement("p");
			found.className = name;
			found.tabIndex = -1;
			after.parentNode.insertBefore(found, after.nextSibling);
		}
		return found;
	}

	// complain says beside the field what is wrong with it; with "" it takes that back.
	function complain(form, text) {
		var field = form.querySelector("input[type=email]");
		var error = part(form, "depesche-error", field.closest("label") || field);
		error.textContent = text;
		if (!text) {
			error.remove();
			field.removeAttribute("aria-invalid");
			field.removeAttribute("aria-describedby");
			return;
		}
		error.id = error.id || "depesche-error-" + ++count;
		field.setAttribute("aria-invalid", "true");
		field.setAttribute("aria-describedby", error.id);
		field.focus();
	}

	document.addEventListener("submit", function (event) {
		var form = event.target;
		if (!form.hasAttribute("data-depesche") || !window.fetch || !window.URLSearchParams) return;
		var page = form.querySelector("input[name=page]");
		if (page && !page.value) page.value = location.origin + location.pathname;
		event.preventDefault();
		if (form.getAttribute("aria-busy") === "true") return;
		form.setAttribute("aria-busy", "true");
		fetch(form.action, {
			method: "POST",
			headers: { Accept: "application/json" },
			body: new URLSearchParams(new FormData(form)),
			credentials: "omit"
		}).then(function (response) {
			return response.json().then(function (said) {
				var wrong = response.status === 422, answer = part(form.parentNode, "depesche-answer", form);
				form.removeAttribute("aria-busy");
				answer.setAttribute("role", "status");
				answer.textContent = wrong ? "" : said.text;
				complain(form, wrong ? said.text : "");
				if (!response.ok) return;
				form.hidden = true;
				answer.focus();
			});
		}).catch(function () {
			form.removeAttribute("aria-busy");
			HTMLFormElement.prototype.submit.call(form);
		});
	});
})();
