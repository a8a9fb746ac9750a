// The box answers in place. Without this script, or if the answer cannot be had, the form is sent like any other.
(function () {
	"use strict";

	function say(form, text) {
		var answer = form.parentNode.querySelector(".depesche-answer");
		if (!answer) {
			answer = document.createElement("p");
			answer.className = "depesche-answer";
			answer.setAttribute("role", "status");
			answer.tabIndex = -1;
			form.parentNode.insertBefore(answer, form.nextSibling);
		}
		if (!answer.id) answer.id = "depesche-answer-" + document.querySelectorAll(".depesche-answer[id]").length;
		answer.textContent = text;
		return answer;
	}

	function mark(form, answer, wrong) {
		var field = form.querySelector("input[type=email]");
		if (wrong) {
			field.setAttribute("aria-invalid", "true");
			field.setAttribute("aria-describedby", answer.id);
			field.focus();
		} else {
			field.removeAttribute("aria-invalid");
			field.removeAttribute("aria-describedby");
		}
	}

	function plainly(form) {
		HTMLFormElement.prototype.submit.call(form);
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
				form.removeAttribute("aria-busy");
				var answer = say(form, said.text);
				mark(form, answer, response.status === 422);
				if (!response.ok) return;
				form.hidden = true;
				answer.focus();
			});
		}).catch(function () {
			form.removeAttribute("aria-busy");
			plainly(form);
		});
	});
})();
